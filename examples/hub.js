// Ten lines: a device, a job over it, and what came of it, with the vendor's
// own client (npm install azure-iothub) and this hub.
const { JobClient, Registry } = require('azure-iothub');

async function main() {
  const registry = Registry.fromConnectionString(process.env.HUB);
  const jobs = JobClient.fromConnectionString(process.env.HUB);
  await registry.create({ deviceId: 'thermo-1', status: 'enabled' });
  await jobs.scheduleTwinUpdate('slower', "deviceId = 'thermo-1'",
      { etag: '*', properties: { desired: { intervalSec: 300 } } });
  let job = { status: 'queued' };
  while (job.status !== 'completed') {
    ({ jobStatus: job } = await jobs.getJob('slower'));
  }
  console.log(job.status, job.deviceJobStatistics.succeededCount);
}

main();
