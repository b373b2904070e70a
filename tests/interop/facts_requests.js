'use strict';
// Wire facts 1 to 3: what all requests and answers have in common.

const assert = require('assert');
const https = require('https');
const iothub = require('azure-iothub');
const {HUB, checkRefusal, encodeStrictly, refused, sign} = require('./hub');

module.exports = ({test, hub, throttled, basic}) => {
  test(
      '1: the host is the connection string\'s, the socket goes elsewhere',
      async () => {
        const seen = [];
        const agent = new https.Agent({keepAlive: true, ...hub.endpoint()});
        const client =
            iothub.JobClient.fromConnectionString(hub.connectionString());
        client._restApiClient.setOptions({http: {agent}});
        agent.on('free', (socket) => seen.push(socket.localPort));
        const {result, message} = await client.createQuery().next();
        assert.ok(Array.isArray(result));
        assert.strictEqual(message.req.getHeader('host'), HUB);
        // One keep-alive connection for all calls.
        await client.createQuery().next();
        await client.createQuery().next();
        agent.destroy();
        assert.strictEqual(seen.length, 3);
        assert.strictEqual(new Set(seen).size, 1);
      });

  test('1: the certificate is checked', async () => {
    const agent =
        new https.Agent({...hub.endpoint(), servername: 'hub.example.com'});
    const client =
        iothub.JobClient.fromConnectionString(hub.connectionString());
    client._restApiClient.setOptions({http: {agent}});
    await assert.rejects(
        client.createQuery().next(), {code: 'ERR_TLS_CERT_ALTNAME_INVALID'});
  });

  for (const order
           of [['sr', 'sig', 'se', 'skn'], ['skn', 'se', 'sig', 'sr']]) {
    test(`2.1: a token in the order ${order}`, async () => {
      const token = sign({key: hub.keys.service, policy: 'service', order});
      const answer = await hub.request('POST', '/devices/query', {
        token,
        body: {query: 'SELECT * FROM devices WHERE deviceId = \'x\''}
      });
      assert.strictEqual(answer.status, 200, answer.text);
    });
  }

  test('2.1: what is signed is sr as it stands in the token', async () => {
    await hub.device('scope-1', {connect: false});
    await hub.device('scope-1%', {connect: false});
    const cases = [
      [HUB, '/twins/scope-1', 200],
      [HUB.toUpperCase(), '/twins/scope-1', 200],
      [`${HUB}%2Ftwins%2Fscope-1`, '/twins/scope-1', 200],
      [`${HUB}%2ftwins%2fscope-1`, '/twins/scope-1', 200],
      [`${HUB}/twins`, '/twins/scope-1', 200],
      // By segments: /a/b covers /a/b/c, and not /a/bc.
      [`${HUB}%2Ftwins%2Fscope-1`, '/twins/scope-1%25', 401],
      [encodeStrictly(`${HUB}/twins/scope-1%`), '/twins/scope-1%25', 200],
      [`${HUB}%2Fdevices`, '/twins/scope-1', 401],
      ['other.example.net', '/twins/scope-1', 401],
    ];
    for (const [resource, target, status] of cases) {
      const token = sign({resource, key: hub.keys.service, policy: 'service'});
      const answer = await hub.request('GET', target, {token});
      assert.strictEqual(answer.status, status, `${resource} ${target}`);
      if (status === 401) checkRefusal(answer, 401, 'IotHubUnauthorizedAccess');
    }
  });

  test('2.1: refusals are 401', async () => {
    const now = Math.floor(Date.now() / 1000);
    const key = hub.keys.service;
    const unknown = [
      null,
      'Bearer eyJ0eXAiOiJKV1QifQ.e30.c2ln',
      'SharedAccessSignature',
      'SharedAccessSignature sr=hub.example.net',
      sign({key, policy: 'service', expiry: now - 3600}),
    ];
    for (const token of unknown) {
      const answer = await hub.request('GET', '/twins/x', {token});
      checkRefusal(answer, 401, 'IotHubUnauthorized');
    }
    const wrong = [
      sign({key: hub.keys.iothubowner, policy: 'service'}),
      sign({key, policy: 'nobody'}),
    ];
    for (const token of wrong) {
      const answer = await hub.request('GET', '/twins/x', {token});
      checkRefusal(answer, 401, 'IotHubUnauthorizedAccess');
    }
  });

  test('2.1: fromSharedAccessSignature, fromTokenCredential', async () => {
    const token = hub.token('registryRead');
    const client = hub.lead(iothub.JobClient.fromSharedAccessSignature(token));
    await refused(
        client.getJob('nobody-knows'),
        {error: 'Error', code: 'JobNotFound', status: 404});
    const credential = {
      getToken: async () =>
          ({token: 'e30.e30.e30', expiresOnTimestamp: Date.now() + 3600000}),
    };
    const bearer =
        hub.lead(iothub.Registry.fromTokenCredential(HUB, credential));
    await refused(
        bearer.get('x'),
        {error: 'UnauthorizedError', code: 'IotHubUnauthorized', status: 401});
  });

  test('2.1: what a policy may not is 401', async () => {
    const denied = {
      error: 'UnauthorizedError',
      code: 'IotHubUnauthorizedAccess',
      status: 401,
    };
    await refused(hub.registry('service').list(), denied);
    await refused(
        hub.registry('registryRead').create({deviceId: 'no'}), denied);
    await refused(hub.registry('registryRead').getTwin('no'), denied);
    await refused(hub.jobs('service').getJob('no'), denied);
    await refused(
        hub.jobs('registryRead').scheduleDeviceMethod('no', '*', {
          methodName: 'no',
        }),
        denied);
    await refused(hub.jobs('device').cancelJob('no'), denied);
    await refused(
        hub.client('registryReadWrite').invokeDeviceMethod('no', {
          methodName: 'no',
        }),
        denied);
    const rows = 'SELECT * FROM devices.jobs';
    const devices = 'SELECT * FROM devices';
    await refused(hub.registry('device').createQuery(rows).next(), denied);
    await refused(
        hub.registry('registryRead').createQuery(devices).next(), denied);
    await hub.registry('registryRead').createQuery(rows).next();
    await hub.registry('service').createQuery(rows).next();
    await hub.registry('service').createQuery(devices).next();
  });

  for (const version
           of ['2021-04-12', '2020-09-30', '2020-03-13', '2018-06-30',
               '2016-11-14', '2016-09-30-preview', '2020-05-31-preview']) {
    test(`3: api-version ${version}`, async () => {
      const answer = await hub.request('GET', '/jobs/v2/query', {version});
      assert.strictEqual(answer.status, 200, answer.text);
    });
  }

  test('3: an api-version that is missing or unknown', async () => {
    for (const version of [null, '', '2019-01-01', '2021-04-12x']) {
      const answer = await hub.request('GET', '/jobs/v2/query', {version});
      checkRefusal(answer, 400, 'InvalidProtocolVersion');
      // It is looked at before the caller is.
      checkRefusal(
          await hub.request('GET', '/jobs/v2/query', {version, token: null}),
          400, 'InvalidProtocolVersion');
    }
  });

  test('3: api-version anywhere on the line', async () => {
    const answer = await hub.request(
        'GET',
        '/jobs/v2/query?jobType=scheduleUpdateTwin&api-version=2020-09-30');
    assert.strictEqual(answer.status, 200, answer.text);
  });

  test('3: what JSON answers are called', async () => {
    const answer = await hub.request('GET', '/jobs/v2/query');
    assert.strictEqual(
        answer.headers['content-type'], 'application/json; charset=utf-8');
  });

  test('3: bodies', async () => {
    const put = (body, headers) =>
        hub.request('PUT', '/jobs/v2/bodies', {body, headers});
    for (const body of ['', '{', '[]', '"x"', '{"a":1,"a":2}', '{}{}']) {
      checkRefusal(await put(body), 400, 'IotHubFormatError');
    }
    checkRefusal(
        await put('{}', {'Content-Type': 'text/plain'}), 415,
        'GenericUnsupportedMediaType');
    checkRefusal(
        await put(`{"x":"${'x'.repeat(256 * 1024)}"}`), 413, 'MessageTooLarge');
    // Upper case and no charset are the same media type.
    checkRefusal(
        await put('{', {'Content-Type': 'Application/JSON'}), 400,
        'IotHubFormatError');
  });

  test('3: paths and verbs that are none', async () => {
    checkRefusal(await hub.request('GET', '/nothing'), 404, 'GenericNotFound');
    checkRefusal(await hub.request('GET', '/'), 404, 'GenericNotFound');
    checkRefusal(
        await hub.request('PATCH', '/jobs/v2/x'), 405,
        'GenericMethodNotAllowed');
    checkRefusal(
        await hub.request('PUT', '/statistics/devices', {body: {}}), 405,
        'GenericMethodNotAllowed');
    // An empty job id.
    checkRefusal(
        await hub.request('POST', '/jobs/v2//cancel'), 405,
        'GenericMethodNotAllowed');
  });

  // The table of statuses and classes, with a call that meets each.
  test('3: 400 is ArgumentError', async () => {
    const error = await refused(
        hub.jobs().scheduleTwinUpdate('a_b', '*', {}),
        {error: 'ArgumentError', code: 'ArgumentInvalid', status: 400});
    assert.match(error.message, /a_b/);
    await refused(
        hub.registry().createQuery('SELECT').next(),
        {error: 'ArgumentError', code: 'ArgumentInvalid', status: 400});
  });
  test('3: 401 is UnauthorizedError', async () => {
    const text =
        hub.connectionString().replace(hub.keys.iothubowner, hub.keys.service);
    await refused(hub.lead(iothub.Registry.fromConnectionString(text)).list(), {
      error: 'UnauthorizedError',
      code: 'IotHubUnauthorizedAccess',
      status: 401,
    });
  });
  test('3: 403 is TooManyDevicesError', async () => {
    await refused(basic.jobs().scheduleTwinUpdate('tier', '*', {}), {
      error: 'TooManyDevicesError',
      code: 'OperationNotAvailableInCurrentTier',
      status: 403,
    });
  });
  test('3: 404 goes by the name', async () => {
    const unknown = {
      error: 'DeviceNotFoundError',
      code: 'DeviceNotFound',
      status: 404
    };
    await refused(hub.registry().get('nobody'), unknown);
    await refused(hub.registry().update({deviceId: 'nobody'}), unknown);
    await refused(hub.registry().delete('nobody'), unknown);
    await refused(hub.registry().getTwin('nobody'), unknown);
    await refused(
        hub.registry().updateTwin('nobody', {tags: {}}, '*'), unknown);
    await refused(
        hub.client().invokeDeviceMethod('nobody', {methodName: 'echo'}),
        unknown);
    const error = await refused(
        hub.jobs().getJob('nobody'),
        {error: 'Error', code: 'JobNotFound', status: 404});
    assert.strictEqual(error.message, 'Not found');
  });
  test('3: 409 is DeviceAlreadyExistsError, for jobs too', async () => {
    await hub.device('twice', {connect: false});
    await refused(hub.registry().create({deviceId: 'twice'}), {
      error: 'DeviceAlreadyExistsError',
      code: 'DeviceAlreadyExists',
      status: 409,
    });
    const schedule = () => hub.jobs().scheduleTwinUpdate(
        'twice', 'deviceId = \'twice\'', {tags: {x: 1}});
    await schedule();
    const exists = {
      error: 'DeviceAlreadyExistsError',
      code: 'JobAlreadyExists',
      status: 409,
    };
    await refused(schedule, exists);
    await hub.finish('twice');
    await refused(schedule, exists);
  });
  test('3: 412 is InvalidEtagError', async () => {
    await hub.device('etag', {connect: false});
    await refused(
        hub.registry().updateTwin('etag', {tags: {x: 1}}, 'AAAAAAAAAGQ='),
        {error: 'InvalidEtagError', code: 'PreconditionFailed', status: 412});
  });
  test('3: 429 is ThrottlingError', async () => {
    // 20 in a minute, of which the bucket may have filled by one again.
    const query = throttled.registry().createQuery('SELECT * FROM devices');
    const call = async () => {
      for (let i = 0; i < 22; ++i) await query.next(null);
    };
    await refused(call, {
      error: 'ThrottlingError',
      code: 'ThrottlingException',
      status: 429,
    });
  });
  test('3: 502 is BadDeviceResponseError', async () => {
    await hub.device('garbage');
    await refused(
        hub.client().invokeDeviceMethod('garbage', {methodName: 'garbage'}), {
          error: 'BadDeviceResponseError',
          code: 'InvalidResponseWhileProxying',
          status: 502,
        });
  });
  test.waits('3: 504 is GatewayTimeoutError', async () => {
    await hub.device('mute');
    const call = hub.client().invokeDeviceMethod(
        'mute', {methodName: 'silent', responseTimeoutInSeconds: 5});
    const begin = Date.now();
    await refused(call, {
      error: 'GatewayTimeoutError',
      code: 'GatewayTimeout',
      status: 504,
    });
    assert.ok(Date.now() - begin > 4900);
    // Nor does the client call again, as after a 503.
    assert.strictEqual((await hub.calls('mute', 1)).length, 1);
  });
};
