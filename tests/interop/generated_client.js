'use strict';
// The client that AutoRest has made of the published service description, as it
// lies inside the vendor's package.  It insists on 200 (204 for a device that
// is deleted), maps answers into classes, and leaves out of requests what the
// description does not know.

const assert = require('assert');
const iothub = require('azure-iothub');
const {counts} = require('./hub');

async function rejected(call, status, code) {
  const error = await call.then(() => null, (e) => e);
  assert.ok(error, `not refused; ${code} is right`);
  assert.strictEqual(error.statusCode, status);
  assert.match(
      JSON.parse(error.response.body).Message,
      new RegExp(`^ErrorCode:${code};.`));
}

module.exports = ({test, hub}) => {
  const api = hub.generated();

  test('generated: identities', async () => {
    const made = await api.devices.createOrUpdateIdentity('gen-1', {
      deviceId: 'gen-1',
      authentication:
          {type: 'sas', symmetricKey: {primaryKey: '', secondaryKey: ''}},
    });
    assert.strictEqual(made.deviceId, 'gen-1');
    assert.ok(made.authentication.symmetricKey.primaryKey.length > 0);
    // The description has them as dates.
    for (const name
             of ['connectionStateUpdatedTime', 'statusUpdatedTime',
                 'lastActivityTime']) {
      assert.ok(!isNaN(new Date(made[name])), name);
    }
    const changed = await api.devices.createOrUpdateIdentity(
        'gen-1', {deviceId: 'gen-1', status: 'disabled'},
        {ifMatch: `"${made.etag}"`});
    assert.strictEqual(changed.status, 'disabled');
    assert.strictEqual(
        (await api.devices.getIdentity('gen-1')).etag, changed.etag);
    await rejected(
        api.devices.createOrUpdateIdentity('gen-1', {deviceId: 'gen-1'}), 409,
        'DeviceAlreadyExists');
    const all = await api.devices.getDevices({top: 1000});
    assert.ok(all.some((device) => device.deviceId === 'gen-1'));
    const bulk = await api.bulkRegistry.updateRegistry([
      {id: 'gen-2', importMode: 'create'},
      {id: 'gen-3', importMode: 'create'},
    ]);
    assert.strictEqual(bulk.isSuccessful, true);
    const statistics = await api.statistics.getDeviceStatistics();
    assert.ok(statistics.totalDeviceCount >= 3);
    await api.devices.deleteIdentity('gen-1', {ifMatch: '*'});
    await rejected(api.devices.getIdentity('gen-1'), 404, 'DeviceNotFound');
  });

  test('generated: twins', async () => {
    await hub.device('gen-twin', {connect: false});
    const twin = await api.devices.getTwin('gen-twin');
    assert.strictEqual(twin.deviceId, 'gen-twin');
    const patched = await api.devices.updateTwin(
        'gen-twin', {tags: {a: 1}, properties: {desired: {b: 2}}},
        {ifMatch: `"${twin.etag}"`});
    assert.deepStrictEqual(patched.tags, {a: 1});
    const replaced = await api.devices.replaceTwin(
        'gen-twin', {tags: {c: 3}}, {ifMatch: '*'});
    assert.deepStrictEqual(replaced.tags, {c: 3});
    assert.strictEqual(replaced.properties.desired.b, 2);
    await rejected(
        api.devices.updateTwin('gen-twin', {tags: {}}, {ifMatch: twin.etag}),
        412, 'PreconditionFailed');
  });

  test('generated: methods', async () => {
    await hub.device('gen-method');
    const result = await api.devices.invokeMethod(
        'gen-method', {methodName: 'echo', payload: {a: 1}});
    assert.strictEqual(result.status, 200);
    assert.deepStrictEqual(result.payload, {a: 1});
    await rejected(
        api.modules.invokeMethod('gen-method', 'm', {methodName: 'echo'}), 404,
        'ModuleNotFound');
  });

  test('generated: queries', async () => {
    for (const id of ['gen-q1', 'gen-q2', 'gen-q3']) {
      await hub.device(id, {tags: {gen: 'q'}, connect: false});
    }
    const query = {query: 'SELECT * FROM devices WHERE tags.gen = \'q\''};
    const first = await api.query.getTwins(query, {xMsMaxItemCount: '2'});
    assert.deepStrictEqual(
        first.map((twin) => twin.deviceId), ['gen-q1', 'gen-q2']);
    assert.strictEqual(first.xMsItemType, 'Twin');
    const second = await api.query.getTwins(query, {
      xMsMaxItemCount: '2',
      xMsContinuation: first.xMsContinuation,
    });
    assert.deepStrictEqual(second.map((twin) => twin.deviceId), ['gen-q3']);
    assert.strictEqual(second.xMsContinuation, undefined);
  });

  test('generated: jobs', async () => {
    await hub.device('gen-job');
    // No id in the body: the path's decides.
    const made = await api.jobs.createScheduledJob('gen-job', {
      type: 'scheduleDeviceMethod',
      cloudToDeviceMethod: {
        methodName: 'echo',
        payload: {x: 1},
        responseTimeoutInSeconds: 30,
        connectTimeoutInSeconds: 0,
      },
      queryCondition: 'deviceId = \'gen-job\'',
      startTime: new Date(),
      maxExecutionTimeInSeconds: 120,
    });
    assert.strictEqual(made.jobId, 'gen-job');
    assert.strictEqual(made.status, 'queued');
    await hub.finish('gen-job');
    const done = await api.jobs.getScheduledJob('gen-job');
    assert.strictEqual(done.status, 'completed');
    assert.ok(done.endTime instanceof Date);
    assert.strictEqual(counts(done), '1 / f0 s1 r0 p0');

    await api.jobs.createScheduledJob('gen-later', {
      type: 'scheduleUpdateTwin',
      updateTwin: {etag: '*', tags: {x: 1}},
      queryCondition: '*',
      startTime: new Date(Date.now() + 3600000),
      maxExecutionTimeInSeconds: 120,
    });
    const cancelled = await api.jobs.cancelScheduledJob('gen-later');
    assert.strictEqual(cancelled.status, 'cancelled');
    await rejected(
        api.jobs.cancelScheduledJob('gen-job'), 405,
        'OperationNotAllowedInCurrentState');
    await rejected(api.jobs.getScheduledJob('nobody'), 404, 'JobNotFound');
    // The description has an object here; hubs, and all other clients, an
    // array.
    const {_response} = await api.jobs.queryScheduledJobs(
        {jobType: 'scheduleDeviceMethod', jobStatus: 'completed'});
    assert.strictEqual(_response.status, 200);
    assert.ok(_response.parsedBody !== undefined);
    assert.ok(Array.isArray(JSON.parse(_response.bodyAsText)));
    await rejected(api.jobs.getImportExportJobs(), 404, 'FeatureNotSupported');
  });

  test('generated: IoTHubTokenCredentials', async () => {
    const credentials =
        new iothub.IoTHubTokenCredentials(hub.connectionString('service'));
    assert.strictEqual(credentials.getHubName(), 'hub.example.net');
    await rejected(
        hub.generated('service').devices.getDevices(), 401,
        'IotHubUnauthorizedAccess');
  });
};
