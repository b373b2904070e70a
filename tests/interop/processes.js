'use strict';
// The processes of a test: none outlives it.

const {spawn} = require('child_process');
const readline = require('readline');

const running = new Set();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => process.exit(1));
}

// A program, and the lines that it says on standard output.
class Program {
  constructor(path, words, env) {
    this.lines = [];
    this.wakers = new Set();
    this.err = '';
    this.child = spawn(path, words, {env: {...process.env, ...env}});
    running.add(this.child);
    this.child.stderr.on('data', (text) => {
      this.err += text;
    });
    this.child.stdin.on('error', () => {});  // Its end says more.
    this.ended = new Promise((resolve) => {
      this.child.on('error', (error) => {
        this.err += error;
      });
      this.child.on('close', (code, signal) => {
        running.delete(this.child);
        this.over = `${path} has ended: ${code ?? signal}\n${this.err}`;
        this.wake();
        resolve(code);
      });
    });
    readline.createInterface({input: this.child.stdout}).on('line', (line) => {
      this.lines.push(line);
      this.wake();
    });
  }

  wake() {
    for (const waker of [...this.wakers]) waker();
  }

  // What `find` makes of the lines so far, as soon as that is something.
  async until(find) {
    for (;;) {
      const found = find(this.lines);
      if (found) return found;
      if (this.over) throw new Error(this.over);
      await new Promise((resolve) => {
        const waker = () => {
          this.wakers.delete(waker);
          resolve();
        };
        this.wakers.add(waker);
      });
    }
  }

  say(line) {
    this.child.stdin.write(line + '\n');
  }

  async end(signal) {
    if (signal) this.child.kill(signal);
    this.child.stdin.end();
    return this.ended;
  }
}

module.exports = {Program};
