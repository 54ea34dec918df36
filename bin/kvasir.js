#!/usr/bin/env node
// Parses and runs on any Node, so that one that is too old gets a message and not a syntax error.
(() => {
  const needed = '22.12.0';
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 22 || (major === 22 && minor < 12)) {
    console.error(`kvasir: needs Node ${needed} or later (this is ${process.versions.node} at ${process.execPath})`);
    process.exit(1);
  }
  import('../dist/src/cli/bin.js').catch(error => {
    console.error(error);
    process.exit(1);
  });
})();
