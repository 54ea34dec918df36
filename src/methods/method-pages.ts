import { beyondStage, describeMethod, type MethodDescription } from './describe.ts';
import { FAMILIES } from './families.ts';
import { METHODS } from './index.ts';
import { optionTable, table } from './markdown.ts';
import type { Measured, MeasuredRow } from './measured.ts';
import { measuredSentence, percent, rowsOf } from './measured-text.ts';
import { isSane, SANE } from './sane.ts';
import type { Method } from './types.ts';

const MADE =
  'made by `node scripts/recipe-docs.ts` from the registry of methods and the measurements of `npm run bench:recipes`';

/** docs/methods/README.md: every method in a row, its claim beside what was measured. */
export function methodsIndex(measured: Measured): string {
  const methods = METHODS.map(describeMethod);
  const families = Object.entries(FAMILIES).flatMap(([family, title]) => {
    const own = methods.filter(method => method.family === family);
    if (own.length === 0) return [];
    const rows = own.map(({ name, paper, summary, claim }) => [
      `[\`${name}\`](${name}.md)`,
      paper ? `[${paper.date}](https://arxiv.org/abs/${paper.arxiv})` : '',
      summary.split('. ')[0]!.replace(/\.$/, ''),
      claim.replace(/\.$/, ''),
      measuredSentence(measured, name).replace(/\.$/, ''),
    ]);
    return [`## ${title}`, table(['method', 'paper', 'what it does', 'its claim', 'measured here'], rows)];
  });
  return page([
    '# Methods',
    `${methods.length} methods, ${MADE}. [Recipes](../recipes.md) says how they are put together.`,
    "The server's page has them as a library that can be searched, each with `Try it on my text`:",
    '![The library of papers](../images/page-methods-wide-light.png)',
    conditions(measured),
    ...families,
  ]);
}

/** docs/methods/<name>.md. */
export function methodPage(method: Method, measured: Measured): string {
  const described = describeMethod(method);
  const { name, title, summary, paper, claim, options, profile, profileOptional, traits } = described;
  const rows = rowsOf(measured, name);
  return page([
    `# ${title}`,
    `\`${name}\`: ${summary}`,
    ...(paper
      ? [
          `**Paper.** ${paper.title} ([arXiv ${paper.arxiv}](https://arxiv.org/abs/${paper.arxiv}), ${paper.date}${paper.venue ? `, ${paper.venue}` : ''}).`,
        ]
      : []),
    ...(claim ? [`**Claim.** ${claim}`] : []),
    ...(measuredSentence(measured, name) ? [`**Measured here.** ${measuredSentence(measured, name)}`] : []),
    ...(profile === null
      ? []
      : [
          `**${profileOptional ? 'Better with' : 'Needs'}** a \`${profile}\` profile of the model: \`kvasir calibrate ${profile} --model <model>\` makes it; the bundled model has one.`,
        ]),
    `**Stage** \`${traits.stage}\`; ${traits.prefixStable ? 'a prefix of its cache may be reused under any continuation' : 'its cache is reused for the same whole prompt only'}.`,
    ...(options.length > 0 ? ['## Options', optionTable(options, true)] : []),
    '## Composes with',
    companions(described),
    '## Measured',
    ...(rows.length > 0
      ? [measuredTable(measured, rows), conditions(measured)]
      : ['Not measured yet: `npm run bench:recipes` does.']),
    `This page is ${MADE}.`,
  ]);
}

function companions(method: MethodDescription): string {
  const { worksWith, worksAs } = method;
  const list = (names: readonly string[]) => names.map(other => `[\`${other}\`](${other}.md)`).join(', ') || 'nothing';
  const beyond = beyondStage(method);
  return [
    `Goes together with ${list(worksWith)}.`,
    ...(worksAs.length > 0 ? [`With other settings also: ${worksAs.map(recipe => `\`${recipe}\``).join(', ')}.`] : []),
    ...(beyond.length > 0 ? [`Not with ${list(beyond)}.`] : []),
  ].join(' ');
}

function measuredTable({ tasks }: Measured, rows: readonly MeasuredRow[]): string {
  const share = (value: number | null) => (value === null ? '' : percent(value));
  return table(
    ['recipe', 'at', 'tokens kept', 'bytes held', 'peak', ...tasks.map(({ name }) => name), 'agreement', 'KL'],
    rows.map(row => [
      `\`${row.recipe}\``,
      String(row.at),
      share(row.kept),
      row.parked ? `${share(row.held)} and ${share(row.parked)} parked` : share(row.held),
      share(row.peak),
      ...tasks.map(({ full }, i) => {
        const score = share(row.scores[i] ?? null);
        return isSane(full) || score === '' ? score : `(${score})`;
      }),
      share(row.agreement),
      row.kl === null ? '' : row.kl.toPrecision(2),
    ]),
  );
}

function conditions({ command, model, length, instances, windows, pages, tasks }: Measured): string {
  const scores = tasks.map(({ name, full }) => `\`${name}\` ${percent(full)}`).join(', ');
  return (
    `Measured by \`${command}\` on \`${model}\`: ${length} tokens, ${instances} instances a task, ${windows} ${windows === 1 ? 'window' : 'windows'} of held-out text; ` +
    `bytes as shares of the full cache's in ${pages}; agreement and KL against the full f32 cache. The full cache scores ${scores}; ` +
    `scores of tasks under ${SANE * 100} % stand in brackets and support no claim.`
  );
}

const page = (parts: readonly string[]): string => `${parts.join('\n\n')}\n`;
