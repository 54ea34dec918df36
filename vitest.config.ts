import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['src/**/*.test.ts', 'kernels/**/*.test.ts', 'test/**/*.test.ts', 'web/src/**/*.test.ts'],
    globalSetup: './test/setup.ts',
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
  },
});
