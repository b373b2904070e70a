'use strict';
// Wire facts 4: jobs.

const assert = require('assert');
const {checkRefusal, counts, refused} = require('./hub');

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$/;

const invalid = {
  error: 'ArgumentError',
  code: 'ArgumentInvalid',
  status: 400
};

// An hour from now.
function later() {
  return new Date(Date.now() + 3600000);
}

module.exports = ({test, hub}) => {
  const jobs = hub.jobs();

  const put = (id, body) => hub.request('PUT', `/jobs/v2/${id}`, {body});
  // Of nobody, an hour from now.
  const never = (members) => ({
    type: 'scheduleUpdateTwin',
    updateTwin: {tags: {x: 1}},
    queryCondition: 'deviceId = \'nobody\'',
    startTime: later().toISOString(),
    ...members,
  });

  // ---- 4.1: what is accepted.

  test(
      '4.1: scheduleTwinUpdate, with all arguments and a promise', async () => {
        await hub.device('t1', {connect: false});
        const patch = {
          etag: '*',
          tags: {ring: 'fast'},
          properties: {desired: {fw: '2.1'}, reported: {}},
        };
        const {jobStatus, response} = await jobs.scheduleTwinUpdate(
            'twin-1', 'deviceId IN [\'t1\']', patch, new Date(), 120);
        assert.strictEqual(response.statusCode, 200);
        assert.deepStrictEqual(jobStatus, {
          jobId: 'twin-1',
          type: 'scheduleUpdateTwin',
          status: 'queued',
        });
        const job = await hub.finish('twin-1');
        assert.strictEqual(counts(job), '1 / f0 s1 r0 p0');
        const {responseBody: twin} = await hub.registry().getTwin('t1');
        assert.deepStrictEqual(twin.tags, {ring: 'fast'});
        assert.strictEqual(twin.properties.desired.fw, '2.1');
      });

  test(
      '4.1: scheduleDeviceMethod, with all arguments and a callback',
      async () => {
        await hub.device('m1');
        const [status, response] = await new Promise((resolve, reject) => {
          jobs.scheduleDeviceMethod(
              'method-1', 'deviceId IN [\'m1\']', {
                methodName: 'echo',
                payload: {delay: 5},
                responseTimeoutInSeconds: 15,
              },
              new Date(), 300, (error, ...results) => {
                if (error)
                  reject(error);
                else
                  resolve(results);
              });
        });
        assert.strictEqual(response.statusCode, 200);
        assert.deepStrictEqual(status, {
          jobId: 'method-1',
          type: 'scheduleDeviceMethod',
          status: 'queued',
        });
        const job = await hub.finish('method-1');
        assert.strictEqual(counts(job), '1 / f0 s1 r0 p0');
        assert.deepStrictEqual(
            (await hub.calls('m1', 1)).map(({payload}) => payload),
            [{delay: 5}]);
        const [row] = await hub.executions('method-1');
        assert.deepStrictEqual(
            row.outcome,
            {deviceMethodResponse: {status: 200, payload: {delay: 5}}});
      });

  test(
      '4.1: without start and limit, as a promise and with callbacks',
      async () => {
        const none = 'deviceId = \'nobody\'';
        const call = (name, ...words) => new Promise((resolve, reject) => {
          jobs[name](...words, (error, result) => {
            if (error)
              reject(error);
            else
              resolve(result);
          });
        });
        const method = {methodName: 'echo'};
        const patch = {tags: {x: 1}};
        await jobs.scheduleDeviceMethod('left-out-1', none, method);
        await jobs.scheduleDeviceMethod('left-out-2', none, method, new Date());
        await call('scheduleDeviceMethod', 'left-out-3', none, method);
        await call(
            'scheduleDeviceMethod', 'left-out-4', none, method, new Date());
        await jobs.scheduleTwinUpdate('left-out-5', none, patch);
        await jobs.scheduleTwinUpdate('left-out-6', none, patch, new Date());
        await call('scheduleTwinUpdate', 'left-out-7', none, patch);
        await call('scheduleTwinUpdate', 'left-out-8', none, patch, new Date());
        for (let i = 1; i <= 8; ++i) {
          const job = await hub.finish(`left-out-${i}`);
          assert.strictEqual(job.status, 'completed');
          assert.strictEqual(job.maxExecutionTimeInSeconds, 3600);
          assert.match(job.startTime, TIME);
        }
      });

  test('4.1: a start that is null or left out is now', async () => {
    for (const startTime of [null, undefined]) {
      const id = `now-${startTime}`;
      await put(id, never({startTime}));
      const job = await hub.finish(id);
      assert.strictEqual(job.startTime, job.createdTime);
    }
  });

  test('4.1: a limit of 0 or null is the default', async () => {
    for (const maxExecutionTimeInSeconds of [0, null]) {
      const id = `limit-${maxExecutionTimeInSeconds}`;
      const answer = await put(id, never({maxExecutionTimeInSeconds}));
      assert.strictEqual(answer.status, 200, answer.text);
      const {jobStatus: job} = await jobs.getJob(id);
      assert.strictEqual(job.maxExecutionTimeInSeconds, 3600);
    }
  });

  test('4.1: an id that is a number, or left out of the body', async () => {
    // The typings of the client allow a number.
    const {jobStatus} = await jobs.scheduleTwinUpdate(
        123, 'deviceId = \'nobody\'', {tags: {}}, later());
    assert.strictEqual(jobStatus.jobId, '123');
    assert.strictEqual((await jobs.getJob(123)).jobStatus.jobId, '123');
    assert.strictEqual((await put('no-id', never())).status, 200);
    // The path's is decoded, once.
    assert.strictEqual((await put('de%63oded', never())).status, 200);
    await jobs.getJob('decoded');
    checkRefusal(await put('twice-%2563', never()), 400, 'ArgumentInvalid');
    checkRefusal(
        await put('one', never({jobId: 'another'})), 400, 'ArgumentInvalid');
  });

  test('4.1: method parameters and their defaults', async () => {
    const method = (cloudToDeviceMethod) => never({
      type: 'scheduleDeviceMethod',
      updateTwin: null,
      cloudToDeviceMethod,
    });
    await put('method-default', method({methodName: 'reboot'}));
    const {jobStatus: job} = await jobs.getJob('method-default');
    assert.deepStrictEqual(job.cloudToDeviceMethod, {
      methodName: 'reboot',
      payload: null,
      responseTimeoutInSeconds: 30,
      connectTimeoutInSeconds: 0,
    });
    // Of old code, and of nobody's.
    const full = {
      methodName: 'reboot',
      payload: [1, {a: null}],
      responseTimeoutInSeconds: 5,
      connectTimeoutInSeconds: 7,
    };
    const answer = await put(
        'method-full', method({...full, timeoutInSeconds: 30, other: 1}));
    assert.strictEqual(answer.status, 200, answer.text);
    assert.deepStrictEqual(
        (await jobs.getJob('method-full')).jobStatus.cloudToDeviceMethod, full);
    for (const payload of [null, 30, 'text', true, false, 0, '', [], {}]) {
      const id =
          `payload-${Buffer.from(JSON.stringify(payload)).toString('hex')}`;
      await put(id, method({methodName: 'reboot', payload}));
      assert.deepStrictEqual(
          (await jobs.getJob(id)).jobStatus.cloudToDeviceMethod.payload,
          payload);
    }
  });

  test('4.1: whole twins, as C# and Java write them', async () => {
    await hub.device('whole', {tags: {keep: 1}, connect: false});
    const updateTwin = {
      deviceId: null,
      moduleId: null,
      etag: null,
      version: null,
      tags: {ring: 'slow'},
      properties: {
        desired: {fw: '1.0'},
        reported: {ignored: true},
      },
      status: null,
      statusReason: null,
      connectionState: null,
      capabilities: null,
      lastActivityTime: null,
    };
    const answer = await put('whole', {
      jobId: 'whole',
      type: 'scheduleUpdateTwin',
      cloudToDeviceMethod: null,
      updateTwin,
      queryCondition: 'deviceId=\'whole\'',
      startTime: new Date().toISOString(),
      maxExecutionTimeInSeconds: 30,
    });
    assert.strictEqual(answer.status, 200, answer.text);
    await hub.finish('whole');
    const {responseBody: twin} = await hub.registry().getTwin('whole');
    assert.deepStrictEqual(twin.tags, {keep: 1, ring: 'slow'});
    assert.strictEqual(twin.properties.desired.fw, '1.0');
    assert.strictEqual(twin.properties.reported.ignored, undefined);
  });

  test('4.1: sections that are null, or none at all', async () => {
    // tags: null clears (contract 6.4).
    await hub.device(
        'sections', {tags: {a: 1}, desired: {b: 2}, connect: false});
    const condition = {
      queryCondition: 'deviceId = \'sections\'',
      startTime: null
    };
    for (const [id, updateTwin] of [
             ['sections-1', {}],
             ['sections-2', {etag: '*', properties: {}}],
             ['sections-3', {properties: {desired: {}}}],
    ]) {
      await put(id, never({...condition, updateTwin}));
      assert.strictEqual(counts(await hub.finish(id)), '1 / f0 s1 r0 p0');
    }
    const {responseBody: before} = await hub.registry().getTwin('sections');
    assert.deepStrictEqual(before.tags, {a: 1});
    assert.strictEqual(before.properties.desired.b, 2);
    await put('sections-4', never({...condition, updateTwin: {tags: null}}));
    await hub.finish('sections-4');
    const {responseBody: after} = await hub.registry().getTwin('sections');
    assert.deepStrictEqual(after.tags, {});
  });

  test('4.1: etags that mean any', async () => {
    for (const [i, etag] of ['*', '"*"', null, undefined].entries()) {
      const answer =
          await put(`any-${i}`, never({updateTwin: {etag, tags: {x: 1}}}));
      assert.strictEqual(answer.status, 200, answer.text);
    }
  });

  test('4.1: the other kind\'s field is null', async () => {
    const one = await put('null-1', never({cloudToDeviceMethod: null}));
    assert.strictEqual(one.status, 200, one.text);
    const other = await put('null-2', never({
                              type: 'scheduleDeviceMethod',
                              cloudToDeviceMethod: {methodName: 'reboot'},
                              updateTwin: null,
                            }));
    assert.strictEqual(other.status, 200, other.text);
    checkRefusal(
        await put('null-3', never({cloudToDeviceMethod: {methodName: 'x'}})),
        400, 'ArgumentInvalid');
  });

  test('4.1: starts with and without fraction and zone', async () => {
    const starts = [
      ['2050-01-02T03:04:05Z', '2050-01-02T03:04:05'],
      ['2050-01-02T03:04:05.6Z', '2050-01-02T03:04:05.6'],
      ['2050-01-02T03:04:05.678Z', '2050-01-02T03:04:05.678'],
      ['2050-01-02T03:04:05.6789012Z', '2050-01-02T03:04:05.6789012'],
      ['2050-01-02T05:04:05+02:00', '2050-01-02T03:04:05'],
      ['2050-01-02T03:04:05', '2050-01-02T03:04:05'],  // The CLI's: UTC.
    ];
    for (const [i, [startTime, expected]] of starts.entries()) {
      const answer = await put(`start-${i}`, never({startTime}));
      assert.strictEqual(answer.status, 200, answer.text);
      const {jobStatus: job} = await jobs.getJob(`start-${i}`);
      assert.match(job.startTime, TIME);
      const fraction = (text) => text.replace(/Z$/, '').replace(/\.?0*$/, '');
      assert.strictEqual(
          fraction(
              job.startTime.replace(/Z$/, '') +
              (job.startTime.includes('.') ? '' : '.')),
          fraction(expected + (expected.includes('.') ? '' : '.')));
    }
    // Long ago is now.
    await put('start-past', never({startTime: '2001-02-03T04:05:06Z'}));
    const job = await hub.finish('start-past');
    assert.match(job.startTime, /^2001-02-03T04:05:06/);
    for (const startTime of ['tomorrow', 1764100000, '2050-13-01T00:00:00Z']) {
      checkRefusal(
          await put('start-bad', never({startTime})), 400, 'ArgumentInvalid');
    }
  });

  test('4.1: conditions as clients write them', async () => {
    await hub.device('Cond-1', {tags: {cond: 'yes', n: 3}, connect: false});
    await hub.device('Cond-2', {tags: {cond: 'no'}, connect: false});
    const conditions = [
      'DeviceId IN [\'Cond-1\']',  // C#, Java
      'deviceId in [\'Cond-1\']',  // the command line
      'deviceId=\'Cond-1\'',       // Java
      'tags.cond = \'yes\'', 'tags.cond = \'yes\' and tags.n = 3',
      'TAGS.cond = \'yes\' AND NOT tags.n != 3',
      'deviceId IN [\'Cond-1\', \'cond-2\']',  // Values have their case.
    ];
    for (const [i, queryCondition] of conditions.entries()) {
      const id = `cond-${i}`;
      const answer = await put(id, never({queryCondition, startTime: null}));
      assert.strictEqual(answer.status, 200, answer.text);
      const job = await hub.finish(id);
      assert.strictEqual(job.queryCondition, queryCondition);
      assert.strictEqual(counts(job), '1 / f0 s1 r0 p0', queryCondition);
    }
  });

  // ---- 4.1: what is refused.

  test('4.1: types that are none', async () => {
    const types = [
      'scheduleTwinUpdate',
      'scheduleDirectRequest',
      'scheduleDirectMethod',
      'scheduledUpdateTwin',
      'export',
      'import',
      'unknown',
      '',
    ];
    for (const type of types) {
      checkRefusal(
          await put('bad-type', never({type})), 400, 'GenericBadRequest');
    }
    // In any case is right.
    const answer = await put('any-case', never({type: 'ScheduleUpdateTwin'}));
    assert.strictEqual(answer.status, 200, answer.text);
    assert.strictEqual(answer.body.type, 'scheduleUpdateTwin');
  });

  test('4.1: what is missing', async () => {
    const method = {type: 'scheduleDeviceMethod', updateTwin: null};
    for (const [members, code] of [
             [{type: undefined}, 'GenericBadRequest'],
             [{queryCondition: undefined}, 'ArgumentNull'],
             [{queryCondition: null}, 'ArgumentNull'],
             [{queryCondition: ''}, 'ArgumentInvalid'],
             [{updateTwin: undefined}, 'ArgumentNull'],
             [{updateTwin: null}, 'ArgumentNull'],
             [{...method}, 'ArgumentNull'],
             [{...method, cloudToDeviceMethod: {}}, 'ArgumentNull'],
             [
               {...method, cloudToDeviceMethod: {methodName: ''}},
               'ArgumentInvalid',
             ],
             [
               {...method, cloudToDeviceMethod: {methodName: null}},
               'ArgumentNull',
             ],
    ]) {
      checkRefusal(await put('missing', never(members)), 400, code);
    }
    checkRefusal(
        await hub.request('GET', '/jobs/v2/missing'), 404, 'JobNotFound');
  });

  test('4.1: ids that are none', async () => {
    const patch = {tags: {x: 1}};
    const ids = ['a_b', 'x'.repeat(65), 'query', 'a.b', 'a b', 'jöb', 'a/b'];
    for (const id of ids) {
      const error =
          await refused(jobs.scheduleTwinUpdate(id, '*', patch), invalid);
      assert.ok(error.message.length > 0);
    }
    const long = 'x'.repeat(64);
    await jobs.scheduleTwinUpdate(
        long, 'deviceId = \'nobody\'', patch, later());
  });

  test('4.1: a bad condition, a bad patch, a bad method', async () => {
    for (const condition
             of ['deviceId = ', 'x'.repeat(8193), 'SELECT * FROM devices']) {
      await refused(
          jobs.scheduleTwinUpdate('bad', condition, {tags: {}}), invalid);
    }
    const patches = [
      {desired: {x: 1}},  // Beside properties.
      {tags: {'a.b': 1}},
      {tags: {$x: 1}},
      {properties: {desired: {'a b': 1}}},
      {tags: 1},
    ];
    for (const patch of patches) {
      await refused(jobs.scheduleTwinUpdate('bad', '*', patch), invalid);
    }
    for (const method
             of [{methodName: 'a b'},
                 {methodName: 'x'.repeat(101)},
                 {methodName: 'x', responseTimeoutInSeconds: 4},
                 {methodName: 'x', responseTimeoutInSeconds: 301},
    ]) {
      await refused(jobs.scheduleDeviceMethod('bad', '*', method), invalid);
    }
    checkRefusal(
        await put('bad', never({
                    type: 'scheduleDeviceMethod',
                    updateTwin: null,
                    cloudToDeviceMethod:
                        {methodName: 'x', connectTimeoutInSeconds: 301},
                  })),
        400, 'ArgumentInvalid');
    checkRefusal(
        await put('bad', never({
                    type: 'scheduleDeviceMethod',
                    updateTwin: null,
                    cloudToDeviceMethod:
                        {methodName: 'x', payload: 'x'.repeat(131072)},
                  })),
        413, 'MessageTooLarge');
    await refused(
        jobs.scheduleTwinUpdate('bad', '*', {etag: 'abc', tags: {}}), {
          error: 'InvalidEtagError',
          code: 'PreconditionFailed',
          status: 412,
        });
    checkRefusal(
        await put('bad', never({maxExecutionTimeInSeconds: -1})), 400,
        'ArgumentInvalid');
    checkRefusal(
        await put('bad', never({maxExecutionTimeInSeconds: '60'})), 400,
        'ArgumentInvalid');
    // Nothing of it was kept.
    await refused(
        jobs.getJob('bad'), {error: 'Error', code: 'JobNotFound', status: 404});
  });

  // ---- 4.2: what is read.

  test('4.2: a job while it is scheduled, and when it has ended', async () => {
    await hub.device('read-1', {connect: false});
    const patch = {
      etag: '*',
      tags: {ring: 'fast'},
      properties: {desired: {fw: '2.1'}},
    };
    const start = later();
    await jobs.scheduleTwinUpdate(
        'read-later', 'deviceId = \'read-1\'', patch, start, 120);
    const waiting =
        await hub.poll('read-later', (job) => job.status === 'scheduled');
    assert.strictEqual(new Date(waiting.startTime).getTime(), start.getTime());
    assert.ok(!('endTime' in waiting));
    assert.ok(!('failureReason' in waiting));
    const {deviceJobStatistics: none} = waiting;
    assert.ok(none === undefined || none.deviceCount === 0);

    await jobs.scheduleTwinUpdate(
        'read-now', 'deviceId = \'read-1\'', patch, new Date(), 120);
    const done = await hub.finish('read-now');
    assert.strictEqual(done.jobId, 'read-now');
    assert.strictEqual(done.type, 'scheduleUpdateTwin');
    assert.strictEqual(done.status, 'completed');
    assert.strictEqual(done.queryCondition, 'deviceId = \'read-1\'');
    assert.strictEqual(done.maxExecutionTimeInSeconds, 120);
    for (const name of ['createdTime', 'startTime', 'endTime']) {
      assert.match(done[name], TIME, name);
    }
    assert.deepStrictEqual(done.deviceJobStatistics, {
      deviceCount: 1,
      failedCount: 0,
      succeededCount: 1,
      runningCount: 0,
      pendingCount: 0,
    });
    // As it was sent (the command line asserts it).
    const {deviceId, ...sent} = done.updateTwin;
    assert.deepStrictEqual(sent, patch);
    assert.ok(deviceId === null || deviceId === undefined);
    // Java refuses a job with both names of one thing.
    for (const name
             of ['jobType', 'startTimeUtc', 'createdDateTimeUtc', 'endTimeUtc',
                 'cloudToDeviceMethod']) {
      assert.ok(!(name in done), name);
    }
  });

  test('4.2: a method job has no updateTwin', async () => {
    await jobs.scheduleDeviceMethod(
        'read-method', 'deviceId = \'nobody\'',
        {methodName: 'reboot', payload: {b: 1, a: [2, 'x']}});
    const done = await hub.finish('read-method');
    assert.ok(!('updateTwin' in done));
    assert.deepStrictEqual(
        done.cloudToDeviceMethod.payload, {b: 1, a: [2, 'x']});
    assert.strictEqual(counts(done), '0 / f0 s0 r0 p0');
  });

  test('4.2: an id that is unknown, or none', async () => {
    for (const id of ['nobody', 'a_b', 'x'.repeat(65)]) {
      const error = await refused(
          jobs.getJob(id), {error: 'Error', code: 'JobNotFound', status: 404});
      assert.strictEqual(error.message, 'Not found');
    }
  });

  test('4.2: queued, scheduled, running, and an end', async () => {
    await hub.device('words-1');
    const {jobStatus: now} = await jobs.scheduleDeviceMethod(
        'words-1', 'deviceId = \'words-1\'', {methodName: 'hold'});
    assert.strictEqual(now.status, 'queued');
    await hub.event({event: 'call', device: 'words-1'});
    const {jobStatus: running} = await jobs.getJob('words-1');
    assert.strictEqual(running.status, 'running');
    assert.strictEqual(counts(running), '1 / f0 s0 r1 p0');
    assert.ok(!('endTime' in running));
    hub.devices.say('release');
    assert.strictEqual((await hub.finish('words-1')).status, 'completed');
    // For a future job as well: the client's own tests assert it.
    const {jobStatus: future} =
        await jobs.scheduleTwinUpdate('words-2', '*', {tags: {x: 1}}, later());
    assert.strictEqual(future.status, 'queued');
  });

  // ---- 4.3: cancel.

  test('4.3: cancel says cancelled already', async () => {
    await jobs.scheduleTwinUpdate('cancel-1', '*', {tags: {x: 1}}, later());
    const {jobStatus, response} = await jobs.cancelJob('cancel-1');
    assert.strictEqual(response.statusCode, 200);
    assert.strictEqual(response.req.getHeader('content-length'), undefined);
    assert.strictEqual(jobStatus.status, 'cancelled');
    assert.strictEqual(jobStatus.jobId, 'cancel-1');
    const {jobStatus: read} = await jobs.getJob('cancel-1');
    assert.strictEqual(read.status, 'cancelled');
    assert.match(read.endTime, TIME);
    // Once more is no error.
    assert.strictEqual(
        (await jobs.cancelJob('cancel-1')).jobStatus.status, 'cancelled');
    const [error, job] = await new Promise((resolve) => {
      jobs.cancelJob('cancel-1', (...results) => resolve(results));
    });
    assert.strictEqual(error, null);
    assert.strictEqual(job.status, 'cancelled');
  });

  test('4.3: cancel with the body {}, as Java sends it', async () => {
    await jobs.scheduleTwinUpdate('cancel-2', '*', {tags: {x: 1}}, later());
    const answer =
        await hub.request('POST', '/jobs/v2/cancel-2/cancel', {body: '{}'});
    assert.strictEqual(answer.status, 200, answer.text);
    assert.strictEqual(answer.body.status, 'cancelled');
  });

  test('4.3: not what runs, has ended, or is unknown', async () => {
    await hub.device('cancel-3');
    await jobs.scheduleDeviceMethod(
        'cancel-3', 'deviceId = \'cancel-3\'', {methodName: 'hold'});
    await hub.event({event: 'call', device: 'cancel-3'});
    const not = {
      error: 'Error',
      code: 'OperationNotAllowedInCurrentState',
      status: 405,
    };
    const running = await refused(jobs.cancelJob('cancel-3'), not);
    assert.strictEqual(
        running.message, 'Job cannot be cancelled in \'Running\' status.');
    hub.devices.say('release');
    await hub.finish('cancel-3');
    const ended = await refused(jobs.cancelJob('cancel-3'), not);
    assert.strictEqual(
        ended.message, 'Job cannot be cancelled in \'Completed\' status.');
    await refused(
        jobs.cancelJob('nobody'),
        {error: 'Error', code: 'JobNotFound', status: 404});
  });
};
