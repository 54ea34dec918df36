import { help, run, work } from './job.ts';

export { help, run, work };
