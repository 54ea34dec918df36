import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** The repository. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url));

export interface StepOptions {
  readonly cwd?: string;
  readonly env?: Record<string, string | undefined>;
  /** Take a failure as a result. */
  readonly mayFail?: boolean;
}

export interface StepResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without a shell; a failure shows all that it printed and raises. */
export async function step(program: string, args: readonly string[], options: StepOptions = {}): Promise<StepResult> {
  const child = spawn(program, args, {
    cwd: options.cwd ?? ROOT,
    env: { ...process.env, ...options.env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.setEncoding('utf8').on('data', text => {
    output.stdout += text;
  });
  child.stderr.setEncoding('utf8').on('data', text => {
    output.stderr += text;
  });
  const code = await new Promise<number>((resolve, reject) => {
    child.on('error', reject).on('close', status => resolve(status ?? 1));
  });
  if (code !== 0 && !options.mayFail) {
    throw new Error(`${program} ${args.join(' ')} ended with ${code}\n${output.stdout}${output.stderr}`);
  }
  return { code, ...output };
}
