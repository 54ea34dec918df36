import { type CompareResult, type CompareRow, meanLength } from '../result.ts';
import { claims, compareTable, failures, mebibytes, taken, took } from '../table.ts';
import { againstBytes, agreementPlot, HOW_TO_READ } from './against-bytes.ts';
import { breakable, embedded, escaped } from './html.ts';
import { bars, legend, lines, type Named } from './plots.ts';
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';

/** One HTML file without anything outside of it. Text of models and of users is shown literally, whatever it holds. */
export function compareReport(result: CompareResult): string {
  const { model, rows } = result;
  const measured = numbered(rows).filter(({ row }) => row.quality);
  const title = `${model.name}: ${rows.length - 1} recipes beside the full cache`;
  const maps = measured.filter(({ row }) => row.quality!.map !== null);
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(title)}</title>
<style>${STYLE}</style>
<header><h1>${escaped(title)}</h1><button type="button" id="theme">Light or dark</button></header>
<p class="soft">${escaped(aboutText(result))}</p>
<main>
<h2>Table</h2>
<p class="soft">${escaped(aboutTable(result))}</p>
${tableOf(result)}
${measured.length > 0 ? body(result, measured) : '<p class="wrong">Nothing was measured.</p>'}
<h2>How it was measured</h2>
${metadataOf(result)}
</main>
<script type="application/json" id="data">${embedded({ bins: result.bins, maps: maps.map(({ row }) => row.quality!.map) })}</script>
<script>${SCRIPT}</script>
</html>
`;
}

/** A row with its number in the table, from 1. */
interface Numbered {
  readonly row: CompareRow;
  readonly number: number;
}

const numbered = (rows: readonly CompareRow[]): Numbered[] => rows.map((row, i) => ({ row, number: i + 1 }));
const named = ({ row, number }: Numbered): Named => ({ name: row.recipe, number });

/** What is shown of rows that were measured, one at least. */
function body(result: CompareResult, measured: readonly Numbered[]): string {
  const { plan, rows } = result;
  return `<h2>Quality against bytes</h2>
<p class="soft">${HOW_TO_READ} Numbers are rows of the table.</p>
<div class="plots">
${figure('Agreement with the full cache', agreementOf(measured))}
${plan.tasks.length > 0 ? figure('Task scores', taskPlot(result, measured)) : ''}
${legend(measured.map(named))}
</div>
<h2>Memory and speed</h2>
<div class="plots">
${figure(
  'Cache peak, MiB',
  bars(
    measured.map(each => ({ ...named(each), value: each.row.quality!.peak / 2 ** 20 })),
    value => value.toFixed(1),
  ),
)}
${speedPlots(measured)}
</div>
<h2>Entries by layer and KV head</h2>
<p class="soft">After the prompt; rows are layers, columns KV heads.</p>
<div class="heat">${measured.map(({ row }) => lengthsTable(row, plan.promptTokens)).join('')}</div>
${mapOf(result, measured)}
<h2>Answers</h2>
<p class="soft">What each recipe writes by itself, greedily; marked from where it leaves the full cache's answer.</p>
<div class="answers">${measured.map(({ row }) => answerOf(row, rows[0]!)).join('')}</div>`;
}

function aboutText(result: CompareResult): string {
  const { plan, model } = result;
  const question = plan.question === null ? '' : `, asked “${plan.question}”`;
  return `${taken(result)}${question}: a prompt of ${plan.promptTokens} tokens, then ${plan.steps} at most. ${model.name} has ${model.layers} layers with ${model.kvHeads} KV heads.`;
}

function aboutTable({ plan }: CompareResult): string {
  const forced = plan.question === null ? "the text's next tokens" : "the full cache's answer";
  const tasks =
    plan.tasks.length > 0 ? ' Tasks that the full cache itself fails in over 40 % are grey and say nothing.' : '';
  return `Kept: entries a layer and KV head, averaged. Agreement (top-1) and KL: ${forced}, forced, against the full f32 cache. Speed after the whole prompt.${tasks}`;
}

function tableOf(result: CompareResult): string {
  const { head, rows } = compareTable(result);
  const full = result.rows[0]!;
  const tasks = result.plan.tasks.map(({ name }) => name);
  const first = head.length - tasks.length;
  const body = rows.map(cells => {
    const shown = cells.map((cell, i) => {
      const task = tasks[i - first];
      const grey = task !== undefined && !claims(full, task) ? ' class="grey"' : '';
      const text = String(cell).replace(/^\((.*)\)$/, '$1');
      return `<td${grey}>${i === 0 ? breakable(text) : escaped(text)}</td>`;
    });
    return `<tr>${shown.join('')}</tr>`;
  });
  const why = failures(result)
    .map(line => `<p class="wrong">${escaped(line)}</p>`)
    .join('');
  return (
    `<div class="wide" tabindex="0" role="region" aria-label="Table"><table><thead><tr>${head.map(cell => `<th scope="col">${escaped(cell)}</th>`).join('')}</tr></thead>` +
    `<tbody>${body.join('')}</tbody></table></div>${why}`
  );
}

const figure = (caption: string, plot: string): string =>
  plot === '' ? '' : `<figure><figcaption>${escaped(caption)}</figcaption>${plot}</figure>`;

const heldOf = ({ row }: Numbered): number => row.quality!.held;

function agreementOf(rows: readonly Numbered[]): string {
  return agreementPlot(rows.map(each => ({ ...named(each), bytes: heldOf(each), share: each.row.quality!.agreement })));
}

/** Mean share of right answers over the tasks that the full cache masters. */
function taskPlot({ rows: [full], plan }: CompareResult, rows: readonly Numbered[]): string {
  const sane = plan.tasks.filter(({ name }) => claims(full!, name)).map(({ name }) => name);
  const outcomes = rows.flatMap(each => {
    const scores = each.row.tasks.filter(({ task }) => sane.includes(task));
    if (sane.length === 0 || scores.length < sane.length) return [];
    const share = scores.reduce((sum, { right, n }) => sum + right / n, 0) / scores.length;
    return [{ ...named(each), bytes: heldOf(each), share }];
  });
  if (outcomes.length === 0) return '';
  return againstBytes('Task scores against bytes', 'right answers, mean over tasks', outcomes);
}

function speedPlots(rows: readonly Numbered[]): string {
  const timed = rows.filter(({ row }) => row.speed.length > 0);
  if (timed.length === 0) return '';
  const last = timed.map(each => ({ ...named(each), value: each.row.speed.at(-1)!.firstTokenMs / 1000 }));
  const series = timed.map(each => ({
    ...named(each),
    points: each.row.speed.map(({ context, tokensPerSecond }) => ({ x: context, y: tokensPerSecond })),
  }));
  const speed = lines(
    'Decode speed',
    series,
    { label: 'tokens of context', format: String },
    { label: 'tokens a second', format: value => String(Number(value.toFixed(1))) },
  );
  return [
    figure(
      'Time to the first token, s',
      bars(last, value => value.toFixed(2)),
    ),
    figure('Decode speed against context', `${speed}${legend(timed.map(named))}`),
  ].join('\n');
}

function lengthsTable({ recipe, quality }: CompareRow, prompt: number): string {
  const heads = quality!.lengths[0]!.map((_, head) => `<th scope="col">${head}</th>`).join('');
  const body = quality!.lengths.map((layer, l) => {
    const cells = layer.map(length => `<td style="--share:${Math.min(1, length / prompt).toFixed(3)}">${length}</td>`);
    return `<tr><th scope="row">${l}</th>${cells.join('')}</tr>`;
  });
  return (
    `<div><h3>${escaped(recipe)}</h3><p class="soft">${Math.round(meanLength(quality!))} entries on average, ${mebibytes(quality!.held)} MiB</p>` +
    `<div class="scroll"><table><thead><tr><td></td>${heads}</tr></thead><tbody>${body.join('')}</tbody></table></div></div>`
  );
}

/** Layers whose number is written beside the map: all of a few, else every fourth. */
const namedLayer = (layer: number, layers: number): boolean => layers <= 32 || layer % 4 === 0;

function mapOf({ model: { layers, kvHeads }, plan }: CompareResult, rows: readonly Numbered[]): string {
  const shown = rows.filter(({ row }) => row.quality!.map !== null);
  // The full cache's map says nothing: begin with one that drops something.
  const first = shown.findIndex(({ row }) => row.quality!.map!.flat().some(line => /[0-9a-e]/.test(line)));
  const hidden = rows.filter(row => !shown.includes(row)).map(({ row }) => row.recipe);
  const without = hidden.length > 0 ? ` Not shown, as entries get new positions there: ${hidden.join('; ')}.` : '';
  const labels = Array.from({ length: layers }, (_, layer) => `<li>${namedLayer(layer, layers) ? layer : ''}</li>`);
  const options = shown.map(({ row }, i) => `<option${i === first ? ' selected' : ''}>${escaped(row.recipe)}</option>`);
  const map = `<p><label>Recipe <select id="recipe">${options.join('')}</select></label></p>
<figure class="map"><p class="axis">layer; its ${kvHeads} lines are KV heads 0 to ${kvHeads - 1}</p>
<ol class="layers" aria-hidden="true">${labels.join('')}</ol><canvas id="map" tabindex="0" role="img" aria-label="Map of kept tokens" aria-describedby="under"></canvas>
<p class="places" aria-hidden="true"><span>first token</span><span>token ${plan.promptTokens} of the prompt</span></p>
<p class="under" id="under" aria-live="polite"></p></figure>`;
  return `<h2>Which tokens each head kept</h2>
<p class="soft">From left to right the prompt, from top to bottom layers and their KV heads; the stronger the colour, the more of a place is kept.${escaped(without)}</p>
${shown.length > 0 ? map : ''}`;
}

function answerOf({ recipe, quality }: CompareRow, full: CompareRow): string {
  const own = quality!.answer;
  const truth = full.quality?.answer ?? own;
  let same = 0;
  while (same < own.length && own[same] === truth[same]) same++;
  const rest = own === truth ? '' : `<mark>${escaped(own.slice(same)) || 'ends here'}</mark>`;
  return `<div><h3>${escaped(recipe)}</h3><p class="text">${escaped(own.slice(0, same))}${rest}</p></div>`;
}

function metadataOf(result: CompareResult): string {
  const { run, model, plan } = result;
  const facts: [string, string][] = [
    ['date', run.date],
    ['commit', `${run.commit}${run.dirty ? ', with changes' : ''}`],
    ['arguments', run.arguments.join(' ')],
    ['machine', `${run.machine.cpu}, ${run.machine.cores} cores, ${run.machine.system}`],
    [
      'versions',
      Object.entries(run.versions)
        .map(([name, version]) => `${name} ${version}`)
        .join(', '),
    ],
    ['model', `${model.name} ${model.fingerprint.slice(0, 16)}, ${(model.parameters / 1e6).toFixed(1)}M parameters`],
    ['tasks', plan.tasks.length > 0 ? `${plan.n} instances each, seed ${plan.seed}` : 'none'],
    ['speed', `${plan.rounds} rounds, recipes in turn; medians`],
    ['time', took(result).replace(/^took /, '')],
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>`;
}
