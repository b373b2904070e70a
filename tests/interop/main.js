'use strict';
// The vendor's clients against Muster: interop_test.sh runs this.
//
//   node main.js [WORDS]    the cases that have these words in their names

const {Hub} = require('./hub');
const {runAll, test} = require('./runner');

async function main() {
  const begin = Date.now();
  const starting = {
    hub: Hub.start(),                      // Nearly all cases share it.
    quiet: Hub.start(),                    // What counts all there is.
    tier: Hub.start(['--profile', 's1']),  // One job at a time.
    throttled: Hub.start(['--profile', 'free']),
    basic: Hub.start(['--profile', 'basic']),
  };
  const hubs = {};
  for (const name of Object.keys(starting)) hubs[name] = await starting[name];
  hubs.tier.pollMs = 200;  // Polls count against its rates.
  for (const file
           of ['facts_requests', 'facts_jobs', 'facts_queries', 'facts_devices',
               'facts_twins', 'facts_methods', 'generated_client',
               'scenario']) {
    require(`./${file}`)({test, ...hubs});
  }
  const failed = await runAll(process.argv.slice(2).join(' '));
  for (const one of Object.values(hubs)) await one.stop();
  console.log(`${((Date.now() - begin) / 1000).toFixed(1)} s`);
  process.exit(failed === 0 ? 0 : 1);
}

// A call that fails before its case looks at it: the case will say so.
process.on('unhandledRejection', (error) => {
  console.log(`early: ${error.message}`);
});

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
