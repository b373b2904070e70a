'use strict';
// Wire facts 7: twins.

const assert = require('assert');
const iothub = require('azure-iothub');
const {checkRefusal, refused} = require('./hub');

module.exports = ({test, hub}) => {
  const registry = hub.registry();
  const read = async (id) => (await registry.getTwin(id)).responseBody;
  const raw = (method, id, body, etag) => hub.request(
      method, `/twins/${id}`, {body, headers: etag ? {'If-Match': etag} : {}});

  test('7: a new twin', async () => {
    await hub.device('new-twin', {connect: false});
    const {responseBody: twin, httpResponse} =
        await registry.getTwin('new-twin');
    assert.strictEqual(httpResponse.statusCode, 200);
    assert.ok(twin instanceof iothub.Twin);
    const {body} = await raw('GET', 'new-twin');
    assert.strictEqual(body.deviceId, 'new-twin');
    assert.strictEqual(body.etag, 'AAAAAAAAAAE=');
    assert.strictEqual(body.version, 1);
    assert.strictEqual(body.status, 'enabled');
    assert.strictEqual(body.connectionState, 'Disconnected');
    assert.strictEqual(body.authenticationType, 'sas');
    for (const section of ['desired', 'reported']) {
      const {$metadata, $version, ...rest} = body.properties[section];
      assert.strictEqual($version, 1);
      assert.ok($metadata.$lastUpdated);
      assert.deepStrictEqual(rest, {});
    }
    // Keys are the registry's alone.
    const {authentication} = (await registry.get('new-twin')).responseBody;
    const text = JSON.stringify(body);
    assert.ok(!text.includes(authentication.symmetricKey.primaryKey));
    for (const name of ['authentication', 'generationId', 'symmetricKey']) {
      assert.ok(!text.includes(`"${name}"`), name);
    }
  });

  test('7: a patch is merged, and answered with the whole twin', async () => {
    await hub.device('merge', {
      tags: {a: {b: 1, c: 2}, list: [1, 2, 3]},
      desired: {fw: '1', gone: true},
      connect: false,
    });
    const before = await read('merge');
    const {responseBody: twin} = await registry.updateTwin(
        'merge', {
          tags: {a: {b: null}, list: [9]},
          properties: {desired: {fw: {major: 2}, gone: null}},
        },
        before.etag);
    assert.deepStrictEqual(twin.tags, {a: {c: 2}, list: [9]});
    const {$metadata, $version, ...desired} = twin.properties.desired;
    assert.deepStrictEqual(desired, {fw: {major: 2}});
    assert.strictEqual($version, before.properties.desired.$version + 1);
    assert.ok($metadata.fw.major.$lastUpdated);
    assert.strictEqual($metadata.gone, undefined);
    assert.notStrictEqual(twin.etag, before.etag);
    assert.strictEqual(twin.version, before.version + 1);
    assert.strictEqual(twin.properties.reported.$version, 1);
    // One part alone leaves the other's version.
    await registry.updateTwin('merge', {tags: {x: 1}}, '*');
    assert.strictEqual(
        (await read('merge')).properties.desired.$version, $version);
  });

  test('7: Twin.update() and get() go by the etag they have', async () => {
    await hub.device('object', {connect: false});
    const {responseBody: one} = await registry.getTwin('object');
    const {responseBody: other} = await registry.getTwin('object');
    await one.update({tags: {x: 1}});
    assert.deepStrictEqual(one.tags, {x: 1});
    await refused(other.update({tags: {x: 2}}), {
      error: 'InvalidEtagError',
      code: 'PreconditionFailed',
      status: 412,
    });
    await other.get();
    await new Promise((resolve, reject) => {
      other.update({tags: {x: 2}}, (e) => (e ? reject(e) : resolve()));
    });
    assert.deepStrictEqual((await read('object')).tags, {x: 2});
  });

  test('7: PUT replaces the sections that it has', async () => {
    await hub.device(
        'put', {tags: {a: 1}, desired: {b: 2, c: 3}, connect: false});
    const answer = await raw(
        'PUT', 'put', {properties: {desired: {c: 4, d: null}}}, '"*"');
    assert.strictEqual(answer.status, 200, answer.text);
    assert.deepStrictEqual(answer.body.tags, {a: 1});
    const {$metadata, $version, ...desired} = answer.body.properties.desired;
    assert.deepStrictEqual(desired, {c: 4});
    assert.ok($metadata && $version);
  });

  test('7: If-Match in all its spellings', async () => {
    await hub.device('match', {connect: false});
    const patch = async (etag, status) => {
      const answer = await raw('PATCH', 'match', {tags: {n: 1}}, etag);
      assert.strictEqual(answer.status, status, `${etag}: ${answer.text}`);
      if (status === 412) checkRefusal(answer, 412, 'PreconditionFailed');
    };
    const now = async () => (await read('match')).etag;
    await patch(undefined, 200);
    await patch('*', 200);
    await patch('"*"', 200);
    await patch(`"${await now()}"`, 200);
    await patch(await now(), 200);
    await patch(`W/"${await now()}"`, 200);
    await patch('"AAAAAAAAAGQ="', 412);
    await patch('AAAAAAAAAGQ=', 412);
    const old = await now();
    await patch('*', 200);
    await patch(`"${old}"`, 412);
  });

  test('7: what is no patch', async () => {
    await hub.device('no-patch', {connect: false});
    for (const body
             of [{tags: {'a.b': 1}},
                 {tags: {'a b': 1}},
                 {tags: {$a: 1}},
                 {tags: 5},
                 {properties: {desired: {x: 2 ** 60}}},
                 {properties: {desired: deep(12)}},
                 {tags: {x: 'x'.repeat(4097)}},
    ]) {
      checkRefusal(
          await raw('PATCH', 'no-patch', body), 400, 'ArgumentInvalid');
    }
    const large = Object.fromEntries(
        Array.from({length: 9}, (_, i) => [`k${i}`, 'x'.repeat(4000)]));
    checkRefusal(
        await raw('PATCH', 'no-patch', {properties: {desired: large}}), 413,
        'MessageTooLarge');
    checkRefusal(await raw('PATCH', 'no-patch', '{'), 400, 'IotHubFormatError');
    const twin = await read('no-patch');
    assert.strictEqual(twin.version, 1);
    // The last that is deep enough still is right.
    assert.strictEqual(
        (await raw('PATCH', 'no-patch', {properties: {desired: deep(11)}}))
            .status,
        200);
  });

  test('7: reported in a patch of a back end changes nothing', async () => {
    await hub.device('reported', {connect: false});
    const answer = await raw(
        'PATCH', 'reported',
        {tags: {x: 1}, properties: {reported: {mine: true}}});
    assert.strictEqual(answer.status, 200, answer.text);
    assert.strictEqual(answer.body.properties.reported.mine, undefined);
    assert.strictEqual(answer.body.properties.reported.$version, 1);
  });

  test(
      '7: a device hears of desired changes, each once and in order',
      async () => {
        await hub.device('hears');
        await registry.updateTwin('hears', {tags: {quiet: 1}}, '*');
        for (let i = 1; i <= 3; ++i) {
          await registry.updateTwin(
              'hears', {properties: {desired: {n: i, gone: null}}}, '*');
        }
        await hub.event({event: 'desired', device: 'hears'}, 3);
        // A method goes the same way: what came before it is there with it.
        await hub.client().invokeDeviceMethod('hears', {methodName: 'echo'});
        const heard = hub.events({event: 'desired', device: 'hears'});
        assert.deepStrictEqual(
            heard.map(({version, patch}) => [version, patch]),
            [1, 2, 3].map((n) => [n + 1, {gone: null, n}]));
      });

  test('7: connectionState', async () => {
    await hub.device('state');
    assert.strictEqual((await read('state')).connectionState, 'Connected');
    assert.strictEqual(
        (await registry.get('state')).responseBody.connectionState,
        'Connected');
    await hub.disconnect('state');
    assert.strictEqual(
        (await registry.get('state')).responseBody.connectionState,
        'Disconnected');
  });

  test('7: modules: there are none', async () => {
    await hub.device('has-none', {connect: false});
    const none = {error: 'Error', code: 'ModuleNotFound', status: 404};
    await refused(registry.getModuleTwin('has-none', 'm'), none);
    await refused(
        registry.updateModuleTwin('has-none', 'm', {tags: {}}, '*'), none);
    await refused(
        hub.client().invokeDeviceMethod('has-none', 'm', {methodName: 'x'}),
        none);
    await refused(
        registry.getModuleTwin('nobody', 'm'),
        {error: 'DeviceNotFoundError', code: 'DeviceNotFound', status: 404});
  });
};

// {o: {o: ... 1}} with `levels` objects, itself among them.
function deep(levels) {
  let value = 1;
  for (let i = 0; i < levels; ++i) value = {o: value};
  return value;
}
