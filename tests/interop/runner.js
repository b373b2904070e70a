'use strict';
// Runs cases: those that mostly wait all at once and first, the others one
// after the other while they wait.  A case fails by throwing.

const cases = [];
const LIMIT_MS = 20000;  // Of one case.

// A case that has the hub to itself but for those that wait.
function test(name, run) {
  cases.push({name, run, waits: false});
}

// A case of seconds, in which nothing but time passes: a timeout of a device,
// the end of a job.  It has devices of its own.
test.waits = (name, run) => cases.push({name, run, waits: true});

async function perform(one) {
  const begin = Date.now();
  let timer;
  const late = new Promise((_resolve, reject) => {
    timer = setTimeout(
        () => reject(new Error(`not done after ${LIMIT_MS} ms`)), LIMIT_MS);
  });
  try {
    await Promise.race([Promise.resolve().then(one.run), late]);
  } catch (error) {
    one.error = error;
  }
  clearTimeout(timer);
  one.ms = Date.now() - begin;
}

function report(one) {
  console.log(`${one.error ? 'FAILED' : 'ok'}  ${one.name} (${one.ms} ms)`);
  if (!one.error) return;
  const text = String(one.error.stack || one.error);
  console.log(text.replace(/^/gm, '    '));
  // What a server has answered says more than the client's error.
  if (one.error.responseBody) console.log(`    ${one.error.responseBody}`);
}

// Those whose names contain `filter`.  Returns how many have failed.
async function runAll(filter) {
  const chosen = cases.filter((one) => one.name.includes(filter));
  const waiting = chosen.filter((one) => one.waits).map((one) => {
    return perform(one).then(() => report(one));
  });
  for (const one of chosen.filter((one) => !one.waits)) {
    await perform(one);
    report(one);
  }
  await Promise.all(waiting);
  const failed = chosen.filter((one) => one.error).length;
  console.log(`${chosen.length - failed} cases passed, ${failed} failed`);
  // No case at all is a mistake in the filter.
  return chosen.length === 0 ? 1 : failed;
}

module.exports = {
  test,
  runAll
};
