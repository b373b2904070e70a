'use strict';
// Wire facts 4.4 and 5: listings and statements, by pages.

const assert = require('assert');
const iothub = require('azure-iothub');
const {checkRefusal, counts, refused} = require('./hub');

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?Z$/;

// All rows of a query, page after page as a correct caller asks for them, and
// the headers of each page.
async function readAll(query) {
  const rows = [];
  const pages = [];
  do {
    const {result, message} = await query.next(query.continuationToken);
    rows.push(...result);
    pages.push({length: result.length, headers: message.headers});
  } while (query.hasMoreResults);
  return {rows, pages};
}

module.exports = ({test, hub, quiet}) => {
  // ---- 4.4: GET /jobs/v2/query.  Of a hub where no other case has jobs.

  test('4.4: jobs by type and status, by pages', async () => {
    const jobs = quiet.jobs();
    const later = new Date(Date.now() + 3600000);
    const none = 'deviceId = \'nobody\'';
    for (let i = 0; i < 5; ++i) {
      await jobs.scheduleDeviceMethod(`list-m${i}`, none, {methodName: 'x'});
      await quiet.finish(`list-m${i}`);
    }
    for (let i = 0; i < 3; ++i) {
      await jobs.scheduleTwinUpdate(`list-t${i}`, none, {tags: {}}, later);
      await quiet.poll(`list-t${i}`, (job) => job.status === 'scheduled');
    }
    await jobs.cancelJob('list-t0');

    const ids = ({rows}) => rows.map((job) => job.jobId);
    const all = await readAll(jobs.createQuery());
    // The latest first (contract 4.4).
    const everything = [
      'list-t2',
      'list-t1',
      'list-t0',
      'list-m4',
      'list-m3',
      'list-m2',
      'list-m1',
      'list-m0',
    ];
    assert.deepStrictEqual(ids(all), everything);
    assert.strictEqual(all.pages[0].headers['x-ms-item-type'], 'JobResponse');
    // Absent on the last page.
    assert.ok(!('x-ms-continuation' in all.pages[0].headers));
    for (const job of all.rows) {
      assert.deepStrictEqual(job, (await jobs.getJob(job.jobId)).jobStatus);
    }

    const methods =
        await readAll(jobs.createQuery('scheduleDeviceMethod', 'completed', 2));
    assert.deepStrictEqual(ids(methods), everything.slice(3));
    assert.deepStrictEqual(methods.pages.map(({length}) => length), [2, 2, 1]);
    assert.deepStrictEqual(
        ids(await readAll(jobs.createQuery('scheduleUpdateTwin'))),
        everything.slice(0, 3));
    assert.deepStrictEqual(
        ids(await readAll(jobs.createQuery(undefined, 'cancelled'))),
        ['list-t0']);
    assert.deepStrictEqual(
        ids(await readAll(jobs.createQuery(null, 'failed'))), []);
    const one = await readAll(jobs.createQuery(null, null, 1));
    assert.deepStrictEqual(ids(one), everything);
    assert.strictEqual(one.pages.length, 8);

    // Words of C#, and of those who write them otherwise.
    const list = async (filter) => {
      const answer = await quiet.request('GET', `/jobs/v2/query?${filter}`);
      assert.strictEqual(answer.status, 200, answer.text);
      return answer.body.map((job) => job.jobId);
    };
    assert.deepStrictEqual(
        await list('jobType=ScheduleUpdateTwin&jobStatus=Cancelled'),
        ['list-t0']);
    assert.deepStrictEqual(await list('jobStatus=canceled'), ['list-t0']);
    assert.deepStrictEqual(
        await list('jobStatus=finished'), everything.slice(3));
    checkRefusal(
        await quiet.request('GET', '/jobs/v2/query?jobStatus=lost'), 400,
        'ArgumentInvalid');
    checkRefusal(
        await quiet.request('GET', '/jobs/v2/query?jobType=lost'), 400,
        'ArgumentInvalid');

    // Page size and position as parameters, which occur in documentation; the
    // headers win.
    const first = await quiet.request('GET', '/jobs/v2/query?pageSize=3');
    assert.strictEqual(first.body.length, 3);
    const token = first.headers['x-ms-continuation'];
    const second = await quiet.request(
        'GET',
        '/jobs/v2/query?pageSize=3&continuationToken=' +
            encodeURIComponent(token));
    assert.deepStrictEqual(
        second.body.map((job) => job.jobId), everything.slice(3, 6));
    const wins = await quiet.request('GET', '/jobs/v2/query?pageSize=3', {
      headers: {'x-ms-max-item-count': '1'},
    });
    assert.strictEqual(wins.body.length, 1);
  });

  test('4.1: the condition * is every device', async () => {
    await quiet.device('star-1', {connect: false});
    await quiet.device('star-2', {status: 'disabled', connect: false});
    await quiet.jobs().scheduleTwinUpdate('star', '*', {tags: {star: 1}});
    const job = await quiet.finish('star');
    assert.strictEqual(counts(job), '2 / f0 s2 r0 p0');
    await quiet.registry().delete('star-1');
    await quiet.registry().delete('star-2');
  });

  test('4.4: next() with a callback, and without a token', async () => {
    const query = hub.jobs().createQuery(null, null, 1);
    const [error, page, response] = await new Promise((resolve) => {
      query.next((...results) => resolve(results));
    });
    assert.strictEqual(error, null);
    assert.strictEqual(page.length, 1);
    assert.strictEqual(response.statusCode, 200);
    // A promise without an argument asks for page one.
    const {result: again} = await query.next();
    assert.strictEqual(again.length, 1);
  });

  // ---- 5: POST /devices/query.

  async function fleet(prefix, count) {
    const devices = Array.from({length: count}, (_, i) => {
      return {deviceId: `${prefix}-${String(i).padStart(3, '0')}`};
    });
    await hub.registry().addDevices(devices);
    await hub.jobs().scheduleTwinUpdate(
        prefix, `STARTSWITH(deviceId, '${prefix}-')`, {tags: {prefix}});
    await hub.finish(prefix);
    return devices.map(({deviceId}) => deviceId);
  }

  test('5: twins by pages', async () => {
    const ids = await fleet('paged', 7);
    const statement = 'SELECT * FROM devices WHERE tags.prefix = \'paged\'';
    const {rows, pages} =
        await readAll(hub.registry().createQuery(statement, 3));
    assert.deepStrictEqual(rows.map((row) => row.deviceId), ids);
    assert.deepStrictEqual(pages.map(({length}) => length), [3, 3, 1]);
    for (const {headers} of pages) {
      assert.strictEqual(headers['x-ms-item-type'], 'Twin');
    }
    assert.ok(pages[0].headers['x-ms-continuation'].length > 0);
    assert.ok(!('x-ms-continuation' in pages[2].headers));
    assert.strictEqual(pages[2].headers['x-ms-continuation'], undefined);

    // The same token, the same page.
    const query = hub.registry().createQuery(statement, 3);
    await query.next();
    const token = query.continuationToken;
    const {result: once} = await query.next(token);
    const {result: twice} = await query.next(token);
    assert.deepStrictEqual(once, twice);
  });

  test('5: nextAsTwin keeps the place itself', async () => {
    const ids = await fleet('twins', 5);
    const query = hub.registry().createQuery(
        'SELECT * FROM devices WHERE tags.prefix = \'twins\'', 2);
    const seen = [];
    while (query.hasMoreResults) {
      const {result} = await query.nextAsTwin();
      for (const twin of result) {
        assert.ok(twin instanceof iothub.Twin);
        seen.push(twin.deviceId);
      }
    }
    assert.deepStrictEqual(seen, ids);
    // A twin that came so can be changed, by its etag.
    const again = hub.registry().createQuery(
        'SELECT * FROM devices WHERE deviceId = \'twins-000\'');
    const {result: [twin]} = await again.nextAsTwin();
    await twin.update({tags: {touched: true}});
    assert.strictEqual(twin.tags.touched, true);
    await twin.get();
    assert.strictEqual(twin.tags.touched, true);
  });

  test('5: item types', async () => {
    await fleet('kinds', 2);
    const kinds = [
      ['SELECT * FROM devices WHERE tags.prefix = \'kinds\'', 'Twin'],
      [
        'SELECT * FROM devices.jobs WHERE devices.jobs.jobId = \'kinds\'',
        'DeviceJob'
      ],
      ['SELECT deviceId FROM devices WHERE tags.prefix = \'kinds\'', 'Raw'],
      ['SELECT COUNT() AS n FROM devices WHERE tags.prefix = \'kinds\'', 'Raw'],
      // C# refuses a page without it, an empty one too.
      ['SELECT * FROM devices WHERE deviceId = \'nobody\'', 'Twin'],
      [
        'SELECT * FROM devices.jobs WHERE devices.jobs.jobId = \'none\'',
        'DeviceJob'
      ],
    ];
    for (const [statement, kind] of kinds) {
      const {message} = await hub.registry().createQuery(statement).next();
      assert.strictEqual(message.headers['x-ms-item-type'], kind, statement);
      assert.strictEqual(
          message.headers['content-type'], 'application/json; charset=utf-8');
    }
    const {result} = await hub.registry().createQuery(kinds[3][0]).next();
    assert.deepStrictEqual(result, [{n: 2}]);
  });

  test('5: page sizes that are none', async () => {
    await fleet('sizes', 100);
    await hub.device('sizes-last', {tags: {prefix: 'sizes'}, connect: false});
    const body = {query: 'SELECT * FROM devices WHERE tags.prefix = \'sizes\''};
    for (const [size, length] of [
             ['0', 1],
             ['-5', 1],
             ['101', 100],
             ['100000', 100],
             ['x', 100],
             ['50', 50],
             [undefined, 100],
    ]) {
      const headers = size === undefined ? {} : {'x-ms-max-item-count': size};
      const answer =
          await hub.request('POST', '/devices/query', {body, headers});
      assert.strictEqual(answer.status, 200, answer.text);
      assert.strictEqual(answer.body.length, length, `page size ${size}`);
    }
  });

  test('5: tokens that are none, or of another statement', async () => {
    await fleet('tokens', 3);
    const registry = hub.registry();
    const query = registry.createQuery(
        'SELECT * FROM devices WHERE tags.prefix = \'tokens\'', 1);
    await query.next();
    const other = registry.createQuery('SELECT * FROM devices', 1);
    const invalid = {
      error: 'ArgumentError',
      code: 'ArgumentInvalid',
      status: 400
    };
    await refused(other.next(query.continuationToken), invalid);
    await refused(query.next('x'), invalid);
    await refused(hub.jobs().createQuery().next('x'), invalid);
  });

  test('5: bad statements', async () => {
    const statements = [
      '',
      'SELECT',
      'SELECT * FROM nowhere',
      'SELECT * FROM devices WHERE',
      `SELECT * FROM devices WHERE deviceId = '${'x'.repeat(8192)}'`,
      'SELECT deviceId FROM devices.jobs',
    ];
    for (const query of statements) {
      const answer =
          await hub.request('POST', '/devices/query', {body: {query}});
      checkRefusal(answer, 400, 'ArgumentInvalid');
    }
    for (const body of [{}, {query: null}]) {
      checkRefusal(
          await hub.request('POST', '/devices/query', {body}), 400,
          'ArgumentNull');
    }
  });

  test('5: rows of devices.jobs', async () => {
    await hub.device('row-ok');
    await hub.device('row-500');
    await hub.device('row-deaf', {connect: 'deaf'});
    const registry = hub.registry();
    for (const id of ['row-ok', 'row-500', 'row-deaf']) {
      await registry.updateTwin(id, {tags: {row: true}}, '*');
    }
    await hub.jobs().scheduleTwinUpdate(
        'row-twin', 'tags.row = true', {tags: {seen: 1}});
    await hub.finish('row-twin');
    for (const row of await hub.executions('row-twin')) {
      assert.strictEqual(row.jobType, 'scheduleUpdateTwin');
      assert.strictEqual(row.status, 'completed');
      assert.deepStrictEqual(row.outcome, {deviceMethodResponse: null});
      assert.ok(!('error' in row));
    }

    await hub.jobs().scheduleDeviceMethod(
        'row-method', 'deviceId = \'row-ok\'',
        {methodName: 'echo', payload: {ok: true}});
    await hub.finish('row-method');
    const [row] = await hub.executions('row-method');
    const times = [
      'startTimeUtc', 'endTimeUtc', 'createdDateTimeUtc',
      'lastUpdatedDateTimeUtc'
    ];
    for (const name of times) assert.match(row[name], TIME, name);
    assert.deepStrictEqual(Object.keys(row).sort(), [
      'deviceId',
      'jobId',
      'jobType',
      'outcome',
      'status',
      ...times,
    ].sort());
    assert.strictEqual(row.jobType, 'scheduleDeviceMethod');
    assert.deepStrictEqual(
        row.outcome,
        {deviceMethodResponse: {status: 200, payload: {ok: true}}});

    // A method that is called still has no end and no outcome yet.
    await hub.device('row-open');
    await hub.jobs().scheduleDeviceMethod(
        'row-open', 'deviceId = \'row-open\'', {methodName: 'hold'});
    await hub.event({event: 'call', device: 'row-open'});
    const [open] = await hub.executions('row-open');
    assert.strictEqual(open.status, 'running');
    assert.ok(!('endTimeUtc' in open));
    assert.ok(!('outcome' in open));
    hub.devices.say('release');
    await hub.finish('row-open');
  });

  test.waits('5: rows of what has failed', async () => {
    await hub.device('failed-off', {connect: false});
    await hub.device('failed-deaf', {connect: 'deaf'});
    await hub.device('failed-gone', {connect: false});
    await hub.jobs().scheduleDeviceMethod(
        'failed-rows', 'STARTSWITH(deviceId, \'failed-\')',
        {methodName: 'echo'}, new Date(), 2);
    await hub.poll('failed-rows', (job) => job.status === 'running');
    await hub.registry().delete('failed-gone');
    const job = await hub.finish('failed-rows');
    assert.strictEqual(job.status, 'completed');
    assert.strictEqual(job.deviceJobStatistics.failedCount, 3);
    const rows = await hub.executions('failed-rows');
    const off = rows.find((row) => row.deviceId === 'failed-off');
    assert.deepStrictEqual(off.error, {
      code: 'DeviceNotOnline',
      description: 'Timed out waiting for device to connect.',
    });
    assert.strictEqual(off.status, 'failed');
    assert.ok(!('outcome' in off));
    assert.ok(!('startTimeUtc' in off));
    const deaf = rows.find((row) => row.deviceId === 'failed-deaf');
    assert.strictEqual(deaf.error.code, 'DeviceNotOnline');
    const gone = rows.find((row) => row.deviceId === 'failed-gone');
    assert.strictEqual(gone.error.code, 'DeviceNotFound');
  });

  test('5: members of devices.jobs in conditions', async () => {
    await hub.device('members-1', {connect: false});
    await hub.jobs().scheduleTwinUpdate(
        'members-1', 'deviceId = \'members-1\'', {tags: {x: 1}});
    await hub.finish('members-1');
    const conditions = [
      'devices.jobs.deviceId = \'members-1\'',
      'devices.jobs.deviceId = \'members-1\' AND devices.jobs.jobType = ' +
          '\'scheduleUpdateTwin\' AND devices.jobs.status = \'completed\'',
      'devices.jobs.jobId = \'members-1\' AND devices.jobs.createdTimeUtc > ' +
          '\'2016-09-01\'',
      'devices.jobs.jobId = \'members-1\' AND devices.jobs.startTimeUtc > ' +
          '\'2016-09-01T00:00:00Z\'',
    ];
    for (const condition of conditions) {
      const {result} =
          await hub.registry()
              .createQuery(`SELECT * FROM devices.jobs WHERE ${condition}`)
              .next();
      assert.deepStrictEqual(
          result.map((row) => [row.deviceId, row.jobId]),
          [['members-1', 'members-1']], condition);
    }
  });
};
