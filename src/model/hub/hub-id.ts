import { KvasirError } from '../../errors.ts';

/** A model on a Hugging Face hub: `owner/repo`, `owner/repo:file.gguf`, `owner/repo@revision`, `owner/repo@revision:file.gguf`. */
export interface HubId {
  readonly repo: string;
  /** Branch, tag or commit; `main` unless given. */
  readonly revision: string;
  readonly file?: string;
}

const ALLOWED = 'owner/repo, owner/repo:file.gguf, owner/repo@revision or owner/repo@revision:file.gguf';
const PART = /^[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9_])?$/;
const REVISION = /^[A-Za-z0-9_](?:[A-Za-z0-9._/-]{0,98}[A-Za-z0-9_-])?$/;

/** Raises `invalid_request` naming what is wrong and what an id looks like. */
export function parseHubId(text: string): HubId {
  const refuse = (why: string): never => {
    throw new KvasirError('invalid_request', `not a hub id: ${why}`, { field: 'model', value: text, allowed: ALLOWED });
  };
  if (text.length > 300) refuse('longer than 300 characters');
  const match = /^([^/@:]*)\/([^/@:]*)(?:@([^:]*))?(?::(.*))?$/s.exec(text);
  if (!match) return refuse('it has no owner/repo');
  const [, owner = '', name = '', revision, file] = match;
  for (const part of [owner, name]) {
    if (!PART.test(part) || part.includes('..') || part.includes('--'))
      refuse(`'${part}' is no owner or repository name`);
  }
  if (revision !== undefined && (!REVISION.test(revision) || /\.\.|\/\/|\/\.|\.\//.test(revision))) {
    refuse(`'${revision}' is no revision`);
  }
  if (file !== undefined) {
    checkFilePath(file);
    if (!file.toLowerCase().endsWith('.gguf')) refuse('the file after the colon is not a .gguf');
  }
  return { repo: `${owner}/${name}`, revision: revision ?? 'main', ...(file !== undefined && { file }) };
}

/** The id's one spelling, which is also the model's name. */
export function formatHubId(id: HubId): string {
  return `${id.repo}${id.revision === 'main' ? '' : `@${id.revision}`}${id.file === undefined ? '' : `:${id.file}`}`;
}

/** Refuses a path, from a person or a server, that could leave its folder or hide in it. Returns it unchanged. */
export function checkFilePath(path: string): string {
  const segments = path.split('/');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused
  const bad = /[\\:*?"<>|\u0000-\u001f\u007f]/.test(path) || path.length > 200;
  if (bad || segments.some(part => part === '' || part === '.' || part === '..' || part.trim() !== part)) {
    throw new KvasirError('invalid_request', 'not a file inside a repository', {
      field: 'file',
      value: path,
      allowed: 'a relative path without "..", "\\", ":" or control characters, at most 200 characters',
    });
  }
  return path;
}

/** A file name for any name, injective: `/` becomes `--`, whatever else is not plain becomes `=xx`. */
export function folderName(name: string): string {
  return name.replace(/[^A-Za-z0-9._-]|(?<=[/-])-|-(?=\/)|^\./gu, char =>
    char === '/'
      ? '--'
      : [...new TextEncoder().encode(char)].map(byte => `=${byte.toString(16).padStart(2, '0')}`).join(''),
  );
}
