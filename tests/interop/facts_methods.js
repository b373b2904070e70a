'use strict';
// Wire facts 8: direct methods.

const assert = require('assert');
const {checkRefusal, refused} = require('./hub');

module.exports = ({test, hub}) => {
  const client = hub.client();
  const offline = {error: 'Error', code: 'DeviceNotOnline', status: 404};
  const post = (id, body) =>
      hub.request('POST', `/twins/${id}/methods`, {body});

  test('8: invokeDeviceMethod, as a promise and with a callback', async () => {
    await hub.device('call-1');
    const {result, message} = await client.invokeDeviceMethod('call-1', {
      methodName: 'echo',
      payload: {delay: 5},
      responseTimeoutInSeconds: 15,
      connectTimeoutInSeconds: 1,
    });
    assert.deepStrictEqual(result, {status: 200, payload: {delay: 5}});
    assert.strictEqual(message.statusCode, 200);
    const [error, called, response] = await new Promise((resolve) => {
      client.invokeDeviceMethod(
          'call-1', {methodName: 'lockDoor'}, (...results) => resolve(results));
    });
    assert.strictEqual(error, null);
    assert.deepStrictEqual(called, {status: 200, payload: null});
    assert.strictEqual(response.statusCode, 200);
    assert.deepStrictEqual(
        (await hub.calls('call-1', 2)).map(({method,
                                             payload}) => [method, payload]),
        [['echo', {delay: 5}], ['lockDoor', null]]);
  });

  test('8: a payload is any JSON', async () => {
    await hub.device('call-any');
    const payloads = [
      null,
      true,
      false,
      0,
      -1.5,
      30,
      '',
      'text',
      'größe \u0000 \ud83d\ude00',
      [],
      [1, [null]],
      {},
      {a: {b: []}},
    ];
    for (const payload of payloads) {
      const {result} = await client.invokeDeviceMethod(
          'call-any', {methodName: 'echo', payload});
      assert.deepStrictEqual(result, {status: 200, payload});
    }
  });

  test('8: whatever status the device says, HTTP says 200', async () => {
    await hub.device('call-status');
    const call = async (methodName) =>
        (await client.invokeDeviceMethod('call-status', {methodName})).result;
    assert.deepStrictEqual(
        await call('teapot'), {status: 418, payload: 'short'});
    assert.deepStrictEqual(
        await call('fail'), {status: 500, payload: {error: 'stuck'}});
    assert.deepStrictEqual(
        await call('unheardOf'), {status: 404, payload: null});
  });

  test('8: payloads up to 128 KB', async () => {
    await hub.device('call-large');
    const payload = 'x'.repeat(128 * 1024 - 2);  // And its quotes.
    const {result} = await client.invokeDeviceMethod(
        'call-large', {methodName: 'echo', payload});
    assert.deepStrictEqual(result, {status: 200, payload});
    await refused(
        client.invokeDeviceMethod(
            'call-large', {methodName: 'echo', payload: payload + 'x'}),
        {error: 'Error', code: 'MessageTooLarge', status: 413});
  });

  test('8: not connected, or without handlers', async () => {
    await hub.device('call-off', {connect: false});
    await hub.device('call-deaf', {connect: 'deaf'});
    const begin = Date.now();
    const error = await refused(
        client.invokeDeviceMethod('call-off', {methodName: 'echo'}), offline);
    assert.strictEqual(error.message, 'Not found');
    await refused(
        client.invokeDeviceMethod('call-deaf', {methodName: 'echo'}), offline);
    // At once: not after retries of the client's, as for a 503.
    assert.ok(Date.now() - begin < 3000);
  });

  test.waits('8: not connected within connectTimeoutInSeconds', async () => {
    await hub.device('call-late-1', {connect: false});
    const begin = Date.now();
    await refused(
        client.invokeDeviceMethod(
            'call-late-1', {methodName: 'echo', connectTimeoutInSeconds: 1}),
        offline);
    assert.ok(Date.now() - begin > 900);
    assert.ok(Date.now() - begin < 5000);
  });

  test('8: connected within connectTimeoutInSeconds', async () => {
    await hub.device('call-late-2', {connect: false});
    const call = client.invokeDeviceMethod('call-late-2', {
      methodName: 'echo',
      payload: 'late',
      connectTimeoutInSeconds: 30,
    });
    await hub.connect('call-late-2');
    assert.deepStrictEqual((await call).result, {status: 200, payload: 'late'});
  });

  test('8: disabled devices are not found', async () => {
    await hub.device('call-disabled', {status: 'disabled', connect: false});
    await refused(
        client.invokeDeviceMethod('call-disabled', {methodName: 'echo'}),
        {error: 'DeviceNotFoundError', code: 'DeviceNotFound', status: 404});
  });

  test('8: ten calls under way on a device, and one more', async () => {
    await hub.device('call-busy');
    const calls = Array.from({length: 10}, () => {
      return client.invokeDeviceMethod('call-busy', {methodName: 'hold'});
    });
    await hub.event({event: 'call', device: 'call-busy'}, 10);
    await refused(
        client.invokeDeviceMethod('call-busy', {methodName: 'echo'}), {
          error: 'TooManyDevicesError',
          code: 'DeviceMaximumInflightMethodExceeded',
          status: 403,
        });
    hub.devices.say('release');
    for (const {result} of await Promise.all(calls)) {
      assert.deepStrictEqual(result, {status: 200, payload: null});
    }
  });

  test('8: bodies that are none', async () => {
    await hub.device('call-bad');
    const method = {methodName: 'echo'};
    for (const [body, code] of [
             ['', 'IotHubFormatError'],
             ['[]', 'IotHubFormatError'],
             [{}, 'ArgumentNull'],
             [{methodName: null}, 'ArgumentNull'],
             [{methodName: ''}, 'ArgumentInvalid'],
             [{methodName: 'a b'}, 'ArgumentInvalid'],
             [{methodName: 5}, 'ArgumentInvalid'],
             [{...method, responseTimeoutInSeconds: 4}, 'ArgumentInvalid'],
             [{...method, responseTimeoutInSeconds: 301}, 'ArgumentInvalid'],
             [{...method, responseTimeoutInSeconds: '30'}, 'ArgumentInvalid'],
             [{...method, connectTimeoutInSeconds: -1}, 'ArgumentInvalid'],
             [{...method, connectTimeoutInSeconds: 301}, 'ArgumentInvalid'],
    ]) {
      checkRefusal(await post('call-bad', body), 400, code);
    }
    // All but the name may be left out, or be null.
    for (const body
             of [method,
                 {...method, responseTimeoutInSeconds: null},
                 {...method, connectTimeoutInSeconds: null, payload: null},
                 {...method, timeoutInSeconds: 30, unknown: {}},
    ]) {
      const answer = await post('call-bad', body);
      assert.strictEqual(answer.status, 200, answer.text);
      assert.deepStrictEqual(answer.body, {status: 200, payload: null});
    }
  });

  test('8: a client that goes away', async () => {
    await hub.device('call-left');
    const {Agent, request} = require('https');
    const agent = new Agent(hub.endpoint());
    const body = JSON.stringify({methodName: 'hold'});
    const left = request({
      method: 'POST',
      path: '/twins/call-left/methods?api-version=2021-04-12',
      headers: {
        'Host': 'hub.example.net',
        'Authorization': hub.token(),
        'Content-Type': 'application/json',
        'Content-Length': body.length,
      },
      agent,
    });
    left.on('error', () => {});
    left.end(body);
    await hub.event({event: 'call', device: 'call-left'});
    left.destroy();
    agent.destroy();
    hub.devices.say('release');
    // The hub and the device are as well as before.
    const {result} = await client.invokeDeviceMethod(
        'call-left', {methodName: 'echo', payload: 1});
    assert.deepStrictEqual(result, {status: 200, payload: 1});
  });
};
