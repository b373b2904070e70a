'use strict';
// Contract 10, the acceptance scenario: the tutorial on scheduled jobs, as the
// Node and the Java version of it go, and variations.  V19 (30 days) and V22 (a
// restart) are for tests/hub_scenario_test.cc and tests/hub_process_test.cc.

const assert = require('assert');
const crypto = require('crypto');
const {checkRefusal, counts, refused} = require('./hub');

const ID = 'myDeviceId';
const END = ['completed', 'failed', 'cancelled'];

function later(ms = 3600000) {
  return new Date(Date.now() + ms);
}

module.exports = ({test, hub, tier}) => {
  test('10.1 to 10.3: the tutorial, Node order', async () => {
    // 10.1: a device, whose owner is not the back end's.
    await hub.registry().create({deviceId: ID});
    assert.strictEqual(
        (await hub.registry().getTwin(ID)).responseBody.connectionState,
        'Disconnected');
    await hub.connect(ID);
    const {responseBody: before} = await hub.registry().getTwin(ID);
    assert.strictEqual(before.connectionState, 'Connected');

    // The tutorial's policy.
    const jobs = hub.jobs('registryReadWrite');
    await refused(
        jobs.getJob('nobody'),
        {error: 'Error', code: 'JobNotFound', status: 404});

    // 10.2: a method job.
    const condition = `deviceId IN ['${ID}']`;
    const methodJob = crypto.randomUUID();
    const scheduled = await new Promise((resolve, reject) => {
      jobs.scheduleDeviceMethod(
          methodJob, condition,
          {methodName: 'lockDoor', payload: null, responseTimeoutInSeconds: 15},
          new Date(), 300,
          (error, job) => (error ? reject(error) : resolve(job)));
    });
    assert.strictEqual(scheduled.status, 'queued');
    const seen = [];
    const method = await hub.poll(methodJob, (job) => {
      if (seen[seen.length - 1] !== job.status) seen.push(job.status);
      return END.includes(job.status);
    });
    const order = ['queued', 'running', 'completed'];
    assert.deepStrictEqual(seen, order.filter((word) => seen.includes(word)));
    assert.strictEqual(method.status, 'completed');
    assert.deepStrictEqual(
        (await hub.calls(ID, 1)).map(({method: name,
                                       payload}) => [name, payload]),
        [['lockDoor', null]]);
    assert.strictEqual(counts(method), '1 / f0 s1 r0 p0');
    assert.ok(new Date(method.endTime) >= new Date(method.createdTime));
    assert.deepStrictEqual(method.cloudToDeviceMethod, {
      methodName: 'lockDoor',
      payload: null,
      responseTimeoutInSeconds: 15,
      connectTimeoutInSeconds: 0,
    });
    const [row, ...others] = await hub.executions(methodJob);
    assert.deepStrictEqual(others, []);
    assert.strictEqual(row.deviceId, ID);
    assert.strictEqual(row.status, 'completed');
    assert.deepStrictEqual(
        row.outcome, {deviceMethodResponse: {status: 200, payload: null}});

    // 10.3: a twin job.
    const twinJob = crypto.randomUUID();
    const patch = {
      etag: '*',
      properties: {desired: {building: '43', floor: 3}},
    };
    const twinScheduled = await new Promise((resolve, reject) => {
      jobs.scheduleTwinUpdate(
          twinJob, condition, patch, new Date(), 300,
          (error, job) => (error ? reject(error) : resolve(job)));
    });
    assert.strictEqual(twinScheduled.status, 'queued');
    const done = await hub.finish(twinJob);
    assert.strictEqual(done.status, 'completed');
    assert.strictEqual(counts(done), '1 / f0 s1 r0 p0');
    const {responseBody: after} = await hub.registry().getTwin(ID);
    assert.strictEqual(after.properties.desired.building, '43');
    assert.strictEqual(after.properties.desired.floor, 3);
    assert.strictEqual(
        after.properties.desired.$version,
        before.properties.desired.$version + 1);
    assert.notStrictEqual(after.etag, before.etag);
    assert.deepStrictEqual(after.tags, before.tags);
    const heard = await hub.event({event: 'desired', device: ID});
    assert.deepStrictEqual(heard.patch, {building: '43', floor: 3});
    assert.strictEqual(heard.version, after.properties.desired.$version);
    assert.strictEqual(hub.events({event: 'desired', device: ID}).length, 1);
    const [twinRow] = await hub.executions(twinJob);
    assert.strictEqual(twinRow.status, 'completed');
    assert.deepStrictEqual(twinRow.outcome, {deviceMethodResponse: null});
    assert.ok(!('error' in twinRow));
  });

  test(
      '10.3: the tutorial, Java order, at a hub of one job at a time',
      async () => {
        await tier.device('myDeviceId');
        const start = new Date().toISOString();
        // As the Java client writes it: the other kind's field, and null.
        const put = async (id, body) => {
          const answer = await tier.request('PUT', `/jobs/v2/${id}`, {
            policy: 'registryReadWrite',
            headers: {Accept: 'application/json'},
            body: {
              jobId: id,
              queryCondition: 'deviceId=\'myDeviceId\'',
              startTime: new Date().toISOString(),
              maxExecutionTimeInSeconds: 30,
              ...body,
            },
          });
          assert.strictEqual(answer.status, 200, answer.text);
          assert.strictEqual(answer.body.status, 'queued');
        };
        const twinJob = `DPCMD${crypto.randomUUID()}`;
        await put(twinJob, {
          type: 'scheduleUpdateTwin',
          updateTwin: {
            deviceId: ID,
            etag: null,
            tags: {},
            properties: {desired: {Building: 43, Floor: 3}},
          },
          cloudToDeviceMethod: null,
        });
        assert.strictEqual(
            counts(await tier.finish(twinJob)), '1 / f0 s1 r0 p0');
        const methodJob = `DMCMD${crypto.randomUUID()}`;
        await put(methodJob, {
          type: 'scheduleDeviceMethod',
          updateTwin: null,
          cloudToDeviceMethod: {
            methodName: 'lockDoor',
            responseTimeoutInSeconds: 5,
            connectTimeoutInSeconds: 5,
            payload: null,
          },
        });
        assert.strictEqual(
            counts(await tier.finish(methodJob)), '1 / f0 s1 r0 p0');
        const {result: rows} = await tier.registry('registryReadWrite')
                                   .createQuery(
                                       'SELECT * FROM devices.jobs WHERE ' +
                                       `devices.jobs.startTimeUtc > '${start}'`)
                                   .next();
        assert.deepStrictEqual(
            rows.map((row) => row.jobId).sort(), [methodJob, twinJob].sort());
        const {responseBody: twin} = await tier.registry().getTwin(ID);
        assert.strictEqual(twin.properties.desired.Building, 43);
        assert.strictEqual(twin.properties.desired.Floor, 3);
        assert.deepStrictEqual(
            (await tier.calls(ID, 1)).map(({method}) => method), ['lockDoor']);
      });

  // ---- 10.4.

  const lock = {methodName: 'lockDoor'};

  test('V1: cancelled before its start', async () => {
    await hub.device('v1');
    const jobs = hub.jobs();
    const {jobStatus} = await jobs.scheduleDeviceMethod(
        'v1', 'deviceId = \'v1\'', lock, later(), 300);
    assert.strictEqual(jobStatus.status, 'queued');
    assert.strictEqual((await jobs.cancelJob('v1')).response.statusCode, 200);
    assert.strictEqual((await jobs.getJob('v1')).jobStatus.status, 'cancelled');
    assert.deepStrictEqual(await hub.executions('v1'), []);
    assert.deepStrictEqual(await hub.calls('v1', 0), []);
  });

  test('V2: scheduled until then', async () => {
    await hub.jobs().scheduleDeviceMethod(
        'v2', 'deviceId = \'nobody\'', lock, later());
    await hub.poll('v2', (job) => job.status === 'scheduled');
    const {jobStatus} = await hub.jobs().cancelJob('v2');
    assert.strictEqual(jobStatus.status, 'cancelled');
  });

  test('V3: not cancelled while it runs', async () => {
    await hub.device('v3');
    await hub.jobs().scheduleDeviceMethod(
        'v3', 'deviceId = \'v3\'', {methodName: 'hold'});
    await hub.event({event: 'call', device: 'v3'});
    await refused(hub.jobs().cancelJob('v3'), {
      error: 'Error',
      code: 'OperationNotAllowedInCurrentState',
      status: 405,
    });
    hub.devices.say('release');
    const job = await hub.finish('v3');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '1 / f0 s1 r0 p0');
  });

  test.waits('V4: a device that stays away', async () => {
    await hub.device('v4', {connect: false});
    await hub.jobs().scheduleDeviceMethod(
        'v4', 'deviceId = \'v4\'', lock, new Date(), 2);
    const job = await hub.finish('v4');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '1 / f1 s0 r0 p0');
    const [row] = await hub.executions('v4');
    assert.strictEqual(row.error.code, 'DeviceNotOnline');
  });

  test.waits('V5: a device that comes late', async () => {
    await hub.device('v5', {connect: false});
    await hub.jobs().scheduleDeviceMethod(
        'v5', 'deviceId = \'v5\'', lock, new Date(), 40);
    const waiting = await hub.poll('v5', (job) => job.status === 'running');
    assert.strictEqual(counts(waiting), '1 / f0 s0 r0 p1');
    const [row] = await hub.executions('v5');
    assert.strictEqual(row.status, 'pending');
    assert.ok(!('startTimeUtc' in row));
    await hub.connect('v5');
    const job = await hub.finish('v5');
    assert.strictEqual(counts(job), '1 / f0 s1 r0 p0');
  });

  test.waits('V6: a handler that never answers', async () => {
    await hub.device('v6');
    await hub.jobs().scheduleDeviceMethod(
        'v6', 'deviceId = \'v6\'',
        {methodName: 'silent', responseTimeoutInSeconds: 5}, new Date(), 30);
    const job = await hub.finish('v6');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '1 / f1 s0 r0 p0');
    const took = new Date(job.endTime) - new Date(job.createdTime);
    assert.ok(took >= 5000 && took < 10000, `${took} ms`);
    const [row] = await hub.executions('v6');
    assert.deepStrictEqual(row.error, {
      code: 'GatewayTimeout',
      description: 'Timed out waiting for the response from device.',
    });
  });

  test('V7: an answer of 500 is an answer', async () => {
    await hub.device('v7');
    await hub.jobs().scheduleDeviceMethod(
        'v7', 'deviceId = \'v7\'', {methodName: 'fail'});
    const job = await hub.finish('v7');
    assert.strictEqual(counts(job), '1 / f0 s1 r0 p0');
    const [row] = await hub.executions('v7');
    assert.deepStrictEqual(
        row.outcome,
        {deviceMethodResponse: {status: 500, payload: {error: 'stuck'}}});
  });

  test('V8: one of three is disabled', async () => {
    await hub.device('v8-a');
    await hub.device('v8-b');
    await hub.device('v8-c', {status: 'disabled', connect: false});
    await hub.jobs().scheduleDeviceMethod(
        'v8', 'STARTSWITH(deviceId, \'v8-\')', lock);
    const job = await hub.finish('v8');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '3 / f1 s2 r0 p0');
    const rows = await hub.executions('v8');
    assert.deepStrictEqual(
        rows.map((row) => [row.deviceId, row.error?.code]),
        [['v8-a', undefined], ['v8-b', undefined], ['v8-c', 'DeviceNotFound']]);
  });

  test('V9: nobody', async () => {
    await hub.jobs().scheduleDeviceMethod('v9', 'deviceId = \'nobody\'', lock);
    const job = await hub.finish('v9');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '0 / f0 s0 r0 p0');
  });

  test('V10 to V13: refused, and nothing kept', async () => {
    const jobs = hub.jobs();
    const none = 'deviceId = \'nobody\'';
    await jobs.scheduleDeviceMethod('v10', none, lock);
    await refused(jobs.scheduleDeviceMethod('v10', none, lock), {
      error: 'DeviceAlreadyExistsError',
      code: 'JobAlreadyExists',
      status: 409,
    });
    const invalid = {
      error: 'ArgumentError',
      code: 'ArgumentInvalid',
      status: 400
    };
    await refused(
        jobs.scheduleDeviceMethod('v11', 'deviceId = ', lock), invalid);
    await refused(
        jobs.getJob('v11'), {error: 'Error', code: 'JobNotFound', status: 404});
    for (const id of ['a_b', 'x'.repeat(65), 'query']) {
      await refused(jobs.scheduleDeviceMethod(id, none, lock), invalid);
    }
    await refused(
        jobs.scheduleTwinUpdate('v13', none, {etag: 'abc', tags: {x: 1}}), {
          error: 'InvalidEtagError',
          code: 'PreconditionFailed',
          status: 412,
        });
  });

  test('V14, V15: who is in it is decided at the start', async () => {
    for (const id of ['v14-a', 'v14-b']) {
      await hub.device(id, {tags: {v14: 'in'}});
    }
    await hub.disconnect('v14-b');
    await hub.jobs().scheduleDeviceMethod(
        'v14', 'tags.v14 = \'in\'', {methodName: 'hold'}, new Date(), 60);
    await hub.event({event: 'call', device: 'v14-a'});
    // Created after the start, and one that the condition fits no more.
    await hub.device('v14-c', {tags: {v14: 'in'}});
    await hub.registry().updateTwin('v14-b', {tags: {v14: 'out'}}, '*');
    await hub.connect('v14-b');
    await hub.event({event: 'call', device: 'v14-b'});
    hub.devices.say('release');
    const job = await hub.finish('v14');
    assert.strictEqual(counts(job), '2 / f0 s2 r0 p0');
    assert.deepStrictEqual(
        (await hub.executions('v14')).map((row) => row.deviceId),
        ['v14-a', 'v14-b']);
    assert.deepStrictEqual(await hub.calls('v14-c', 0), []);
  });

  test('V16: a section that would be too large', async () => {
    const text = 'x'.repeat(4000);
    const full =
        Object.fromEntries(Array.from({length: 7}, (_, i) => [`k${i}`, text]));
    await hub.device('v16-a', {desired: full, connect: false});
    await hub.device('v16-b', {desired: {k0: 1}, connect: false});
    const {responseBody: before} = await hub.registry().getTwin('v16-a');
    await hub.jobs().scheduleTwinUpdate(
        'v16', 'STARTSWITH(deviceId, \'v16-\')',
        {properties: {desired: {new0: text, new1: text}}});
    const job = await hub.finish('v16');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(counts(job), '2 / f1 s1 r0 p0');
    const rows = await hub.executions('v16');
    assert.deepStrictEqual(
        rows.map((row) => row.error?.code), ['MessageTooLarge', undefined]);
    const {responseBody: after} = await hub.registry().getTwin('v16-a');
    assert.strictEqual(after.etag, before.etag);
    assert.deepStrictEqual(after.properties, before.properties);
  });

  test('V17: null removes', async () => {
    await hub.device('v17', {desired: {old: 1, kept: 2}});
    await hub.jobs().scheduleTwinUpdate(
        'v17', 'deviceId = \'v17\'', {properties: {desired: {old: null}}});
    assert.strictEqual(counts(await hub.finish('v17')), '1 / f0 s1 r0 p0');
    const {responseBody: twin} = await hub.registry().getTwin('v17');
    assert.ok(!('old' in twin.properties.desired));
    assert.strictEqual(twin.properties.desired.kept, 2);
    const {patch} = await hub.event({event: 'desired', device: 'v17'});
    assert.deepStrictEqual(patch, {old: null});
  });

  test('V18: the list, a row at a time', async () => {
    const query =
        hub.jobs().createQuery('scheduleDeviceMethod', 'Completed', 1);
    const ids = [];
    while (query.hasMoreResults) {
      const {result, message} = await query.next(query.continuationToken);
      assert.strictEqual(message.headers['x-ms-item-type'], 'JobResponse');
      assert.ok(result.length <= 1);
      for (const job of result) {
        assert.strictEqual(job.type, 'scheduleDeviceMethod');
        assert.strictEqual(job.status, 'completed');
        ids.push(job.jobId);
      }
    }
    assert.strictEqual(new Set(ids).size, ids.length);
    assert.ok(ids.includes('v9'));
    assert.ok(!ids.includes('v1'));
  });

  test('V20: one job too many', async () => {
    await tier.device('v20');
    const jobs = tier.jobs();
    await jobs.scheduleDeviceMethod(
        'v20-1', 'deviceId = \'v20\'', {methodName: 'hold'});
    await tier.event({event: 'call', device: 'v20'});
    await refused(jobs.scheduleDeviceMethod('v20-2', '*', lock), {
      error: 'ThrottlingError',
      code: 'ThrottlingMaxActiveJobCountExceeded',
      status: 429,
    });
    // V21: those that wait for their time are not active.
    const start = later(300);
    for (const id of ['v21-1', 'v21-2']) {
      await jobs.scheduleDeviceMethod(
          id, 'deviceId = \'v20\'', {methodName: 'hold'}, start);
    }
    for (const id of ['v21-1', 'v21-2']) {
      await tier.poll(
          id, (job) => new Date() > start && job.status === 'queued');
    }
    tier.devices.say('release');
    // One after the other.
    await tier.event({event: 'call', device: 'v20'}, 2);
    const states = await Promise.all(['v21-1', 'v21-2'].map(async (id) => {
      return (await jobs.getJob(id)).jobStatus.status;
    }));
    assert.deepStrictEqual(states.sort(), ['queued', 'running']);
    tier.devices.say('release');
    await tier.event({event: 'call', device: 'v20'}, 3);
    tier.devices.say('release');
    for (const id of ['v20-1', 'v21-1', 'v21-2']) {
      assert.strictEqual((await tier.finish(id)).status, 'completed');
    }
    checkRefusal(
        await tier.request('GET', '/jobs/v2/v20-2'), 404, 'JobNotFound');
  });
};
