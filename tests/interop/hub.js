'use strict';
// A hub: `muster serve` and its devices as processes, and the vendor's clients,
// as they come from the registry, at it.

const assert = require('assert');
const crypto = require('crypto');
const fs = require('fs');
const https = require('https');
const path = require('path');
const iothub = require('azure-iothub');
const {IotHubGatewayServiceAPIs} =
    require('azure-iothub/dist/pl/iotHubGatewayServiceAPIs');
const {Program} = require('./processes');

// In nobody's DNS: the clients' sockets are led to 127.0.0.1.
const HUB = 'hub.example.net';
const POLICIES =
    ['iothubowner', 'service', 'device', 'registryRead', 'registryReadWrite'];
const VERSION = '2021-04-12';

const folder = process.env.MUSTER_INTEROP_FOLDER;  // With the certificate.
const certificate = path.join(folder, 'cert.pem');

function newKey() {
  return crypto.randomBytes(32).toString('base64');
}

// As encodeURIComponent(), and of what is left all that is no letter or digit.
function encodeStrictly(text) {
  return encodeURIComponent(text).replace(
      /[!'()*]/g, (c) => '%' + c.charCodeAt(0).toString(16).toUpperCase());
}

// A shared access signature.  `resource` as it is to stand in the token.
function sign({resource = HUB, key, policy, expiry, order}) {
  const se = expiry ?? Math.floor(Date.now() / 1000) + 3600;
  const sig = crypto.createHmac('sha256', Buffer.from(key, 'base64'))
                  .update(`${resource}\n${se}`)
                  .digest('base64');
  const fields = {
    sr: resource,
    sig: encodeStrictly(sig),
    se,
    skn: policy && encodeStrictly(policy),
  };
  return 'SharedAccessSignature ' +
      (order ?? ['sr', 'sig', 'skn', 'se'])
          .filter((name) => fields[name] !== undefined)
          .map((name) => `${name}=${fields[name]}`)
          .join('&');
}

let hubs = 0;

class Hub {
  // `flags`: more of `muster serve`.
  static async start(flags = []) {
    const hub = new Hub();
    hub.pollMs = 10;  // Between two looks at a job.
    hub.keys = Object.fromEntries(POLICIES.map((name) => [name, newKey()]));
    const gatewayKey = newKey();
    const access = path.join(folder, `access-${++hubs}.json`);
    fs.writeFileSync(access, JSON.stringify({
      policies: [{name: 'gateway', roles: ['gateway'], primaryKey: gatewayKey}],
    }));
    const words = [
      'serve',
      '--listen',
      '127.0.0.1:0',
      '--http',
      '127.0.0.1:0',
      '--tls-cert',
      certificate,
      '--tls-key',
      path.join(folder, 'key.pem'),
      '--hub-name',
      HUB,
      '--access',
      access,
      ...flags,
    ];
    for (const name of POLICIES) {
      words.push('--policy', `${name}=${hub.keys[name]}`);
    }
    hub.server = new Program(process.env.MUSTER_PROGRAM, words);
    const [, grpc] = await hub.server.until(
        (lines) => /serves at (127\.0\.0\.1:\d+)/.exec(lines.join('\n')));
    const [, port] = await hub.server.until(
        (lines) => /https:\/\/127\.0\.0\.1:(\d+)/.exec(lines.join('\n')));
    hub.port = Number(port);
    hub.agent = new https.Agent({keepAlive: true, ...hub.endpoint()});
    hub.devices = new Program(
        process.env.MUSTER_DEVICES, [grpc, certificate, HUB, 'gateway'],
        {MUSTER_KEY: gatewayKey});
    await hub.event({event: 'up'});
    return hub;
  }

  async stop() {
    this.agent.destroy();
    await this.devices.end();
    assert.strictEqual(await this.server.end('SIGTERM'), 0, this.server.err);
  }

  // Where sockets for the hub's name go.
  endpoint() {
    return {host: '127.0.0.1', port: this.port, servername: HUB};
  }

  // ---- The vendor's clients.

  connectionString(policy = 'iothubowner') {
    return `HostName=${HUB};SharedAccessKeyName=${policy};` +
        `SharedAccessKey=${this.keys[policy]}`;
  }

  // The call that each client's constructor makes itself: an agent of its own.
  lead(client) {
    client._restApiClient.setOptions({http: {agent: this.agent}});
    return client;
  }
  jobs(policy) {
    const text = this.connectionString(policy);
    return this.lead(iothub.JobClient.fromConnectionString(text));
  }
  registry(policy) {
    const text = this.connectionString(policy);
    return this.lead(iothub.Registry.fromConnectionString(text));
  }
  client(policy) {
    const text = this.connectionString(policy);
    return this.lead(iothub.Client.fromConnectionString(text));
  }
  generated(policy) {
    const text = this.connectionString(policy);
    return new IotHubGatewayServiceAPIs(
        new iothub.IoTHubTokenCredentials(text),
        {baseUri: `https://127.0.0.1:${this.port}`});
  }

  token(policy = 'iothubowner') {
    return sign({key: this.keys[policy], policy});
  }

  // ---- What other clients send: HTTPS as it stands.

  // `target` without an api-version gets one.  `body`: text, or what JSON is
  // made of.  `token`: null for none.
  request(method, target, {body, headers = {}, token, policy, version} = {}) {
    if (version !== null && !target.includes('api-version=')) {
      target += (target.includes('?') ? '&' : '?') +
          `api-version=${version ?? VERSION}`;
    }
    const sent = {Host: HUB, ...headers};
    if (token !== null) sent.Authorization = token ?? this.token(policy);
    let text;
    if (body !== undefined) {
      text = typeof body === 'string' ? body : JSON.stringify(body);
      sent['Content-Type'] ??= 'application/json; charset=utf-8';
      sent['Content-Length'] ??= Buffer.byteLength(text);
    } else if (method !== 'GET') {
      sent['Content-Length'] ??= 0;
    }
    return new Promise((resolve, reject) => {
      const request = https.request(
          {method, path: target, headers: sent, agent: this.agent},
          (response) => {
            let answer = '';
            response.setEncoding('utf8');
            response.on('data', (chunk) => {
              answer += chunk;
            });
            response.on('error', reject);
            response.on('end', () => {
              const type = response.headers['content-type'] ?? '';
              resolve({
                status: response.statusCode,
                headers: response.headers,
                text: answer,
                body: type.includes('application/json') ? JSON.parse(answer) :
                                                          undefined,
              });
            });
          });
      request.on('error', reject);
      request.end(text);
    });
  }

  // ---- Devices.

  // Registers a device; `tags` and `desired` of its twin; connected unless
  // `connect` is false ('deaf': it takes no methods).
  async device(id, {tags, desired, status, connect = 'connect'} = {}) {
    const registry = this.registry();
    await registry.create({deviceId: id, status: status ?? 'enabled'});
    if (tags || desired) {
      await registry.updateTwin(id, {tags, properties: {desired}}, '*');
    }
    if (connect) await this.connect(id, connect);
    return id;
  }
  async connect(id, how = 'connect') {
    const before = this.events({event: 'attached', device: id}).length;
    this.devices.say(`${how} ${id}`);
    await this.event({event: 'attached', device: id}, before + 1);
  }
  async disconnect(id) {
    this.devices.say(`disconnect ${id}`);
    for (;;) {
      const {body} =
          await this.request('GET', `/twins/${encodeURIComponent(id)}`);
      if (body.connectionState === 'Disconnected') return;
    }
  }

  // What devices have said so far that has these members.
  events(members) {
    return this.devices.lines.map((line) => JSON.parse(line))
        .filter((event) => {
          return Object.entries(members).every(
              ([name, v]) => event[name] === v);
        });
  }
  // Until there are `count` such events; the last of them.
  event(members, count = 1) {
    return this.devices.until(() => this.events(members)[count - 1]);
  }
  // The calls that a device has had, once there are `count`: an answer may be
  // here before what the device has said.
  async calls(device, count) {
    const members = {event: 'call', device};
    if (count > 0) await this.event(members, count);
    return this.events(members);
  }

  // ---- Jobs.

  // Follows a job to its end as a back end does, by polling, and checks what
  // holds at every read.
  async finish(jobId) {
    return this.poll(jobId, (job) => {
      return ['completed', 'failed', 'cancelled'].includes(job.status);
    });
  }
  async poll(jobId, done) {
    const client = this.jobs();
    let last = {failedCount: 0, succeededCount: 0};
    for (;;) {
      const {jobStatus: job} = await client.getJob(jobId);
      const counts = job.deviceJobStatistics;
      if (counts) {
        assert.strictEqual(
            counts.deviceCount,
            counts.failedCount + counts.succeededCount + counts.runningCount +
                counts.pendingCount);
        assert.ok(counts.failedCount >= last.failedCount);
        assert.ok(counts.succeededCount >= last.succeededCount);
        last = counts;
      }
      if (done(job)) return job;
      await new Promise((resolve) => setTimeout(resolve, this.pollMs));
    }
  }
  // The rows of a job, by device.
  async executions(jobId) {
    const statement =
        `SELECT * FROM devices.jobs WHERE devices.jobs.jobId = '${jobId}'`;
    const query = this.registry().createQuery(statement);
    const {result} = await query.next();
    return result.sort((a, b) => (a.deviceId < b.deviceId ? -1 : 1));
  }
}

// "7 / f1 s5 r0 p1", as the contract writes them.
function counts(job) {
  const c = job.deviceJobStatistics;
  return `${c.deviceCount} / f${c.failedCount} s${c.succeededCount} ` +
      `r${c.runningCount} p${c.pendingCount}`;
}

// The error with which `call` fails, which has this class (by its name: the
// package exports none), name of the hub and status.
async function refused(call, {error, code, status}) {
  let caught;
  try {
    await (typeof call === 'function' ? call() : call);
  } catch (e) {
    caught = e;
  }
  assert.ok(caught, `not refused; ${code} is right`);
  assert.ok(caught.responseBody, caught);
  const body = JSON.parse(caught.responseBody);
  const text = checkEnvelope(body, caught.response.headers, code);
  assert.strictEqual(caught.response.statusCode, status);
  assert.strictEqual(caught.constructor.name, error);
  // The client reads the text out of the envelope, but for a 404 of a name that
  // it does not know.
  if (caught.message !== 'Not found') assert.strictEqual(caught.message, text);
  return caught;
}

// Contract 4.6, form A.  Returns the text.
function checkEnvelope(body, headers, code) {
  assert.deepStrictEqual(Object.keys(body), ['Message', 'ExceptionMessage']);
  const message = /^ErrorCode:([A-Za-z]+);([^;]+)$/.exec(body.Message);
  assert.ok(message, body.Message);
  assert.strictEqual(message[1], code, body.Message);
  assert.match(
      body.ExceptionMessage,
      /^Tracking ID:[0-9a-f]{32}-G:\d+-TimeStamp:\d\d\/\d\d\/\d{4} \d\d:\d\d:\d\d$/);
  assert.strictEqual(headers['iothub-errorcode'], code);
  assert.match(headers['content-type'], /^application\/json/);
  return message[2];
}

// The same of an answer of Hub.request().
function checkRefusal(answer, status, code) {
  assert.strictEqual(answer.status, status, answer.text);
  return checkEnvelope(answer.body, answer.headers, code);
}

module.exports = {
  HUB,
  Hub,
  VERSION,
  checkRefusal,
  counts,
  encodeStrictly,
  refused,
  sign,
};
