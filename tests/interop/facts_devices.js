'use strict';
// Wire facts 6: identities.

const assert = require('assert');
const iothub = require('azure-iothub');
const {checkRefusal, refused} = require('./hub');

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$/;

// A key as a hub makes it: 32 bytes.
function isKey(text) {
  return Buffer.from(text, 'base64').length === 32;
}

module.exports = ({test, hub, quiet}) => {
  const registry = hub.registry();

  test('6: create makes keys and hands them out', async () => {
    const {responseBody: device, httpResponse} =
        await registry.create({deviceId: 'made-1'});
    assert.strictEqual(httpResponse.statusCode, 200);
    assert.strictEqual(device.deviceId, 'made-1');
    assert.strictEqual(device.status, 'enabled');
    assert.strictEqual(device.connectionState, 'Disconnected');
    assert.ok(device.generationId.length > 0);
    assert.ok(device.etag.length > 0);
    assert.doesNotMatch(device.etag, /"/);
    assert.strictEqual(device.authentication.type, 'sas');
    const {primaryKey, secondaryKey} = device.authentication.symmetricKey;
    assert.ok(isKey(primaryKey));
    assert.ok(isKey(secondaryKey));
    assert.notStrictEqual(primaryKey, secondaryKey);
    assert.strictEqual(Number(device.cloudToDeviceMessageCount), 0);
    assert.deepStrictEqual(device.capabilities, {iotEdge: false});
    for (const name
             of ['connectionStateUpdatedTime', 'statusUpdatedTime',
                 'lastActivityTime']) {
      assert.match(device[name], TIME, name);
    }
    const {responseBody: read} = await registry.get('made-1');
    assert.deepStrictEqual(read, device);
  });

  test('6: callbacks', async () => {
    const call = (name, ...words) => new Promise((resolve, reject) => {
      registry[name](...words, (error, result, response) => {
        if (error)
          reject(error);
        else
          resolve({result, response});
      });
    });
    const created = await call('create', {deviceId: 'called-back'});
    assert.ok(created.result instanceof iothub.Device);
    assert.strictEqual(created.response.statusCode, 200);
    const updated =
        await call('update', {deviceId: 'called-back', status: 'disabled'});
    assert.strictEqual(updated.result.status, 'disabled');
    assert.strictEqual(
        (await call('get', 'called-back')).result.status, 'disabled');
    const twin = await call('getTwin', 'called-back');
    assert.strictEqual(twin.result.status, 'disabled');
    const patched =
        await call('updateTwin', 'called-back', {tags: {a: 1}}, '*');
    assert.deepStrictEqual(patched.result.tags, {a: 1});
    assert.strictEqual(
        (await call('delete', 'called-back')).response.statusCode, 204);
    await assert.rejects(
        call('get', 'called-back'), {name: 'DeviceNotFoundError'});
  });

  test('6: create with keys, with thumbprints, with none', async () => {
    const symmetricKey = {
      primaryKey: Buffer.alloc(32, 1).toString('base64'),
      secondaryKey: Buffer.alloc(32, 2).toString('base64'),
    };
    const keyed = await registry.create(
        {deviceId: 'keyed', authentication: {symmetricKey}});
    assert.deepStrictEqual(
        keyed.responseBody.authentication.symmetricKey, symmetricKey);

    const x509Thumbprint = {
      primaryThumbprint: 'A'.repeat(40),
      secondaryThumbprint: 'B'.repeat(40),
    };
    const {responseBody: signed} = await registry.create(
        {deviceId: 'self-signed', authentication: {x509Thumbprint}});
    assert.strictEqual(signed.authentication.type, 'selfSigned');
    assert.deepStrictEqual(
        signed.authentication.x509Thumbprint, x509Thumbprint);
    assert.ok(!signed.authentication.symmetricKey.primaryKey);

    const authority = await registry.create({
      deviceId: 'authority-signed',
      authentication: {type: 'certificateAuthority'},
    });
    assert.strictEqual(
        authority.responseBody.authentication.type, 'certificateAuthority');
  });

  test(
      '6: update needs the device, keeps its keys, changes its etag',
      async () => {
        const {responseBody: made} =
            await registry.create({deviceId: 'changed'});
        const {responseBody: changed} = await registry.update(
            {deviceId: 'changed', status: 'disabled', statusReason: 'stolen'});
        assert.strictEqual(changed.status, 'disabled');
        assert.strictEqual(changed.statusReason, 'stolen');
        assert.strictEqual(changed.generationId, made.generationId);
        assert.notStrictEqual(changed.etag, made.etag);
        assert.deepStrictEqual(changed.authentication, made.authentication);
        await refused(registry.update({deviceId: 'not-there'}), {
          error: 'DeviceNotFoundError',
          code: 'DeviceNotFound',
          status: 404
        });
      });

  test('6: update by etag', async () => {
    const {responseBody: made} = await registry.create({deviceId: 'by-etag'});
    const put = (etag, status) => hub.request('PUT', '/devices/by-etag', {
      body: {deviceId: 'by-etag', status},
      headers: {'If-Match': etag},
    });
    const changed = await put(`"${made.etag}"`, 'disabled');
    assert.strictEqual(changed.status, 200, changed.text);
    assert.strictEqual(changed.body.status, 'disabled');
    checkRefusal(
        await put(`"${made.etag}"`, 'enabled'), 412, 'PreconditionFailed');
    for (const any of ['*', '"*"']) {
      assert.strictEqual((await put(any, 'enabled')).status, 200);
    }
    checkRefusal(
        await hub.request(
            'DELETE', '/devices/by-etag',
            {headers: {'If-Match': `"${made.etag}"`}}),
        412, 'PreconditionFailed');
  });

  test('6: a new device of an old name is another one', async () => {
    const {responseBody: first} = await registry.create({deviceId: 'again'});
    await registry.updateTwin('again', {tags: {x: 1}}, '*');
    const {httpResponse} = await registry.delete('again');
    assert.strictEqual(httpResponse.statusCode, 204);
    const {responseBody: second} = await registry.create({deviceId: 'again'});
    assert.notStrictEqual(second.generationId, first.generationId);
    assert.notStrictEqual(
        second.authentication.symmetricKey.primaryKey,
        first.authentication.symmetricKey.primaryKey);
    const {responseBody: twin} = await registry.getTwin('again');
    assert.deepStrictEqual(twin.tags, {});
    assert.strictEqual(twin.etag, 'AAAAAAAAAAE=');
  });

  test('6: the body has no id or the path\'s', async () => {
    const put = (body) => hub.request('PUT', '/devices/one-id', {body});
    assert.strictEqual((await put({deviceId: 'one-id'})).status, 200);
    checkRefusal(await put({deviceId: 'another'}), 400, 'ArgumentInvalid');
  });

  test('6: ids of every character that may be in one', async () => {
    const ids = [
      'a-._:=@$,;*!?()\'%+#Z9',  // Contract 6.1.
      'x'.repeat(128),
      '%2F',
      '%',
      'CaseMatters',
      'casematters',
    ];
    for (const id of ids) {
      const {responseBody: made} = await registry.create({deviceId: id});
      assert.strictEqual(made.deviceId, id);
      assert.strictEqual((await registry.get(id)).responseBody.deviceId, id);
      assert.strictEqual(
          (await registry.getTwin(id)).responseBody.deviceId, id);
      await hub.connect(id);
      const {result} = await hub.client().invokeDeviceMethod(
          id, {methodName: 'echo', payload: id});
      assert.deepStrictEqual(result, {status: 200, payload: id});
      const condition = `deviceId = '${id.replace(/'/g, '\\\'')}'`;
      const {result: rows} =
          await registry
              .createQuery(`SELECT deviceId FROM devices WHERE ${condition}`)
              .next();
      assert.deepStrictEqual(rows, [{deviceId: id}]);
      await registry.delete(id);
    }
    for (const id of ['x'.repeat(129), 'a b', 'a/b', 'größe', 'a&b']) {
      await refused(
          registry.create({deviceId: id}),
          {error: 'ArgumentError', code: 'ArgumentInvalid', status: 400});
    }
  });

  test(
      '6: list, with the slash and without; the generated client\'s top',
      async () => {
        for (let i = 0; i < 3; ++i) {
          await quiet.device(`listed-${i}`, {connect: false});
        }
        const ids = ['listed-0', 'listed-1', 'listed-2'];
        const {responseBody: devices, httpResponse} =
            await quiet.registry().list();
        assert.deepStrictEqual(devices.map((d) => d.deviceId).sort(), ids);
        assert.match(httpResponse.req.path, /^\/devices\/\?api-version=/);
        assert.ok(isKey(devices[0].authentication.symmetricKey.primaryKey));
        const plain = await quiet.request('GET', '/devices');
        assert.deepStrictEqual(plain.body.map((d) => d.deviceId).sort(), ids);
        const top = await quiet.request('GET', '/devices?top=2');
        assert.strictEqual(top.body.length, 2);
        const generated = await quiet.generated().devices.getDevices({top: 2});
        assert.strictEqual(generated.length, 2);
      });

  test('6: statistics', async () => {
    const before =
        (await quiet.registry().getRegistryStatistics()).responseBody;
    await quiet.device('counted-1', {connect: false});
    await quiet.device('counted-2', {status: 'disabled', connect: false});
    const {responseBody: after} =
        await quiet.registry().getRegistryStatistics();
    assert.deepStrictEqual(after, {
      totalDeviceCount: before.totalDeviceCount + 2,
      enabledDeviceCount: before.enabledDeviceCount + 1,
      disabledDeviceCount: before.disabledDeviceCount + 1,
    });
    await quiet.registry().delete('counted-1');
    await quiet.registry().delete('counted-2');
  });

  test('6: bulk', async () => {
    const made = await registry.addDevices([
      {deviceId: 'bulk-1'},
      {deviceId: 'bulk-2', status: 'disabled'},
      {deviceId: 'bulk-3'},
    ]);
    assert.deepStrictEqual(
        made.responseBody, {isSuccessful: true, errors: [], warnings: []});
    const {responseBody: one} = await registry.get('bulk-1');
    assert.ok(isKey(one.authentication.symmetricKey.primaryKey));
    const {responseBody: two} = await registry.get('bulk-2');
    assert.strictEqual(two.status, 'disabled');

    // By force, and by etag: one of two has it.
    const updated = await registry.updateDevices(
        [{deviceId: 'bulk-1', status: 'disabled'}], true);
    assert.strictEqual(updated.responseBody.isSuccessful, true);
    const changed = (await registry.get('bulk-1')).responseBody;
    assert.strictEqual(changed.status, 'disabled');
    await refusedInPart(
        registry.updateDevices(
            [
              {deviceId: 'bulk-1', status: 'enabled', etag: one.etag},
              {deviceId: 'bulk-2', status: 'enabled', etag: two.etag},
            ],
            false),
        [{deviceId: 'bulk-1'}]);
    assert.strictEqual(
        (await registry.get('bulk-1')).responseBody.status, 'disabled');
    assert.strictEqual(
        (await registry.get('bulk-2')).responseBody.status, 'enabled');

    // What exists is not made again, and the rest is.
    await refusedInPart(
        registry.addDevices([{deviceId: 'bulk-3'}, {deviceId: 'bulk-4'}]),
        [{deviceId: 'bulk-3'}]);
    await registry.get('bulk-4');

    await refusedInPart(
        registry.removeDevices([{deviceId: 'bulk-1', etag: one.etag}], false),
        [{deviceId: 'bulk-1'}]);
    const removed = await registry.removeDevices(
        [
          {deviceId: 'bulk-1'},
          {deviceId: 'bulk-2'},
          {deviceId: 'bulk-3'},
          {deviceId: 'bulk-4'},
        ],
        true);
    assert.strictEqual(removed.responseBody.isSuccessful, true);
    await assert.rejects(registry.get('bulk-4'), {name: 'DeviceNotFoundError'});
  });

  test('6: at most 100 in bulk', async () => {
    const many = (count) =>
        Array.from({length: count}, (_, i) => ({deviceId: `many-${i}`}));
    assert.strictEqual(
        (await registry.addDevices(many(100))).responseBody.isSuccessful, true);
    assert.strictEqual(
        (await registry.removeDevices(many(100), true))
            .responseBody.isSuccessful,
        true);
    // The client refuses more by itself.
    const body = many(101).map(({deviceId}) => {
      return {id: deviceId, importMode: 'create'};
    });
    const answer = await hub.request('POST', '/devices', {body});
    assert.strictEqual(answer.status, 400, answer.text);
    await assert.rejects(registry.get('many-0'), {name: 'DeviceNotFoundError'});
  });

  test('6: import modes in any case', async () => {
    const body = [
      {id: 'mode-1', importMode: 'Create'},
      {id: 'mode-2', importMode: 'create'},
    ];
    const made = await hub.request('POST', '/devices', {body});
    assert.strictEqual(made.status, 200, made.text);
    const gone = await hub.request('POST', '/devices', {
      body: body.map(({id}) => ({id, importMode: 'delete'})),
    });
    assert.strictEqual(gone.status, 200, gone.text);
  });

  test('6: R12 is refused', async () => {
    const refusal = {error: 'Error', code: 'FeatureNotSupported', status: 404};
    await refused(
        registry.importDevicesFromBlob('https://a', 'https://b'), refusal);
    await refused(registry.exportDevicesToBlob('https://a', true), refusal);
    await refused(registry.listJobs(), refusal);
    await refused(registry.getJob('x'), refusal);
    await refused(registry.cancelJob('x'), refusal);
  });
};

// A partial failure: 400 with the result for a body.
async function refusedInPart(call, errors) {
  const error = await call.then(() => null, (e) => e);
  assert.ok(error, 'not refused');
  assert.strictEqual(error.response.statusCode, 400, error.responseBody);
  const body = JSON.parse(error.responseBody);
  assert.strictEqual(body.isSuccessful, false, error.responseBody);
  assert.deepStrictEqual(body.warnings, []);
  assert.deepStrictEqual(body.errors.map(({deviceId}) => ({deviceId})), errors);
  for (const one of body.errors) {
    assert.ok(one.errorCode !== undefined, error.responseBody);
    assert.strictEqual(typeof one.errorStatus, 'string', error.responseBody);
  }
}
