import type { Command } from 'commander';
import { KvasirError } from '../errors.ts';
import { beyondStage, describeMethod, type MethodDescription } from '../methods/describe.ts';
import { findMethod, METHODS } from '../methods/index.ts';
import { nearest } from '../methods/nearest.ts';
import type { Method } from '../methods/types.ts';
import { table } from './format.ts';
import { type Context, printJson } from './io.ts';
import { addOptions, JSON_OUTPUT } from './options.ts';

/** `kvasir methods [name]`: what recipes are made of. */
export function methodsCommand(command: Command, context: Context): Command {
  addOptions(command.description('list the methods of recipes, or tell one in full'), [JSON_OUTPUT]);
  command.argument('[name]', 'one method: its options and what it goes together with');
  return command.action((name: string | undefined, options: Record<string, unknown>) => {
    const { io } = context;
    if (name === undefined) {
      const all = METHODS.map(describeMethod);
      if (options.json) printJson(io, all);
      else io.stdout.write(list(all));
      return;
    }
    const description = describeMethod(named(name));
    if (options.json) printJson(io, description);
    else io.stdout.write(detail(description));
  });
}

function named(name: string): Method {
  const method = findMethod(name);
  if (method) return method;
  const names = METHODS.map(known => known.name);
  const meant = nearest(name, names);
  const hint = meant === undefined ? '' : `: did you mean "${meant}"?`;
  throw new KvasirError('invalid_request', `there is no such method${hint}`, {
    field: 'name',
    value: name,
    allowed: names,
  });
}

function list(methods: readonly MethodDescription[]): string {
  const rows = methods.map(({ name, family, traits, paper, title }) => [
    name,
    family,
    traits.stage,
    paper ? `${title} (${paper.date}, arXiv ${paper.arxiv})` : title,
  ]);
  return `${table(['name', 'family', 'stage', 'paper'], rows)}

A recipe puts methods together in the order of their stages: --kv 'snapkv(keep=0.25) + kivi(bits=2)'.
kvasir methods <name> tells one in full.
`;
}

function detail(method: MethodDescription): string {
  const { name, title, family, summary, paper, claim, options, traits, profile, profileOptional, worksWith, worksAs } =
    method;
  const facts = [
    ['family', family],
    ['stage', traits.stage],
    ...(paper
      ? [['paper', `${paper.title}, ${paper.date}, arXiv ${paper.arxiv}${paper.venue ? `, ${paper.venue}` : ''}`]]
      : []),
    ...(claim ? [['claim', claim]] : []),
    ...(profile === null
      ? []
      : [[profileOptional ? 'better with' : 'needs', `a profile of the model: kvasir calibrate ${profile}`]]),
    [
      'prefixes',
      traits.prefixStable ? 'may be reused under any continuation' : 'are reused for the same whole prompt only',
    ],
    ['works with', worksWith.join(', ') || 'none'],
    ...(worksAs.length > 0 ? [['also as', worksAs.join(', ')]] : []),
    ['not with', [name === 'full' ? 'any other' : `other ${traits.stage} methods`, ...beyondStage(method)].join(', ')],
  ];
  const width = Math.max(...facts.map(([key]) => key!.length));
  const rows = options.map(option => [
    option.name,
    option.allowed,
    option.default === undefined ? '-' : JSON.stringify(option.default),
    option.description,
  ]);
  const parts = [
    `${name}: ${title}`,
    summary,
    facts.map(([key, value]) => `${key!.padEnd(width)}  ${value}`).join('\n'),
    ...(rows.length > 0 ? [table(['option', 'allowed', 'default', 'meaning'], rows)] : []),
  ];
  return `${parts.join('\n\n')}\n`;
}
