import { type CompareResult, type CompareRow, meanLength } from '../result.ts';
import { claims, compareTable, failures, mebibytes } from '../table.ts';
import { embedded, escaped } from './html.ts';
import { bars, lines, scatter } from './plots.ts';
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';

/** One HTML file without anything outside of it. Text of models and of users is shown literally, whatever it holds. */
export function compareReport(result: CompareResult): string {
  const { model, plan } = result;
  const measured = result.rows.filter(row => row.quality);
  const title = `${model.name}: ${result.rows.length - 1} recipes beside the full cache`;
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
<h2>Quality against bytes</h2>
<p class="soft">Up and to the left is better. The dashed line joins the recipes that no other beats in both.</p>
<div class="plots">
${figure('Agreement with the full cache', agreementPlot(measured))}
${plan.tasks.length > 0 ? figure('Task scores', taskPlot(result, measured)) : ''}
</div>
<h2>Memory and speed</h2>
<div class="plots">
${figure(
  'Cache peak, MiB',
  bars(
    'Cache peak',
    measured.map(({ recipe, quality }) => ({ name: recipe, value: quality!.peak / 2 ** 20 })),
    value => value.toFixed(1),
  ),
)}
${speedPlots(measured)}
</div>
<h2>Entries by layer and KV head</h2>
<p class="soft">After the prompt; rows are layers, columns KV heads.</p>
<div class="heat">${measured.map(row => lengthsTable(row, plan.promptTokens)).join('')}</div>
${mapOf(measured)}
<h2>Answers</h2>
<p class="soft">What each recipe writes by itself, greedily; marked from where it leaves the full cache's answer.</p>
<div class="answers">${measured.map(row => answerOf(row, measured[0]!)).join('')}</div>
<h2>How it was measured</h2>
${metadataOf(result)}
</main>
<script type="application/json" id="data">${embedded({ bins: result.bins, maps: mapped(measured).map(({ recipe, quality }) => ({ recipe, map: quality!.map })) })}</script>
<script>${SCRIPT}</script>
</html>
`;
}

function aboutText({ plan, model }: CompareResult): string {
  const question = plan.question === null ? '' : `, asked “${plan.question}”`;
  return `${plan.promptTokens} tokens of ${plan.text}${question}, then ${plan.steps} tokens at most. ${model.name} has ${model.layers} layers with ${model.kvHeads} KV heads.`;
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
      return `<td${grey}>${escaped(String(cell).replace(/^\((.*)\)$/, '$1'))}</td>`;
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
  plot === ''
    ? ''
    : `<figure><figcaption>${escaped(caption)}</figcaption><div class="scroll" tabindex="0" role="region" aria-label="${escaped(caption)}">${plot}</div></figure>`;

const MEBIBYTES = {
  label: 'bytes held after the prompt, MiB',
  format: (value: number) => String(Number(value.toFixed(2))),
};

function agreementPlot(rows: readonly CompareRow[]): string {
  const points = rows.map(({ recipe, quality }) => ({
    name: recipe,
    x: quality!.held / 2 ** 20,
    y: quality!.agreement * 100,
  }));
  return scatter('Agreement against bytes', points, MEBIBYTES, {
    label: 'equal next tokens, %',
    format: value => String(Number(value.toFixed(1))),
  });
}

/** Mean share of right answers over the tasks that the full cache masters. */
function taskPlot({ rows: [full], plan }: CompareResult, rows: readonly CompareRow[]): string {
  const sane = plan.tasks.filter(({ name }) => claims(full!, name)).map(({ name }) => name);
  const points = rows.flatMap(({ recipe, quality, tasks }) => {
    const scores = tasks.filter(({ task }) => sane.includes(task));
    if (sane.length === 0 || scores.length < sane.length) return [];
    const mean = scores.reduce((sum, { right, n }) => sum + right / n, 0) / scores.length;
    return [{ name: recipe, x: quality!.held / 2 ** 20, y: mean * 100 }];
  });
  if (points.length === 0) return '';
  return scatter('Task scores against bytes', points, MEBIBYTES, {
    label: 'right answers, mean over tasks, %',
    format: value => String(Number(value.toFixed(1))),
  });
}

function speedPlots(rows: readonly CompareRow[]): string {
  const timed = rows.filter(({ speed }) => speed.length > 0);
  if (timed.length === 0) return '';
  const last = timed.map(({ recipe, speed }) => ({ name: recipe, value: speed.at(-1)!.firstTokenMs / 1000 }));
  const series = timed.map(({ recipe, speed }) => ({
    name: recipe,
    points: speed.map(({ context, tokensPerSecond }) => ({ x: context, y: tokensPerSecond })),
  }));
  return [
    figure(
      'Time to the first token, s',
      bars('Time to the first token', last, value => value.toFixed(2)),
    ),
    figure(
      'Decode speed against context',
      lines(
        'Decode speed',
        series,
        { label: 'tokens of context', format: String },
        { label: 'tokens a second', format: String },
      ),
    ),
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

const mapped = (rows: readonly CompareRow[]): CompareRow[] => rows.filter(({ quality }) => quality!.map !== null);

function mapOf(rows: readonly CompareRow[]): string {
  const shown = mapped(rows);
  // The full cache's map says nothing: begin with one that drops something.
  const first = shown.findIndex(({ quality }) => quality!.map!.flat().some(line => /[0-9a-e]/.test(line)));
  const hidden = rows.filter(row => !shown.includes(row)).map(({ recipe }) => recipe);
  const without = hidden.length > 0 ? ` Not shown, as entries get new positions there: ${hidden.join('; ')}.` : '';
  return `<h2>Which tokens each head kept</h2>
<p class="soft">From left to right the prompt, from top to bottom layers and their KV heads; the darker, the more of a place is kept.${escaped(without)}</p>
<p><label>Recipe <select id="recipe">${shown.map((row, i) => `<option${i === first ? ' selected' : ''}>${escaped(row.recipe)}</option>`).join('')}</select></label></p>
<figure><canvas id="map" tabindex="0" role="img" aria-label="Map of kept tokens" aria-describedby="under"></canvas><p class="under" id="under" aria-live="polite"></p></figure>`;
}

function answerOf({ recipe, quality }: CompareRow, full: CompareRow): string {
  const [own, truth] = [quality!.answer, full.quality!.answer];
  let same = 0;
  while (same < own.length && own[same] === truth[same]) same++;
  const rest = own === truth ? '' : `<mark>${escaped(own.slice(same)) || 'ends here'}</mark>`;
  return `<div><h3>${escaped(recipe)}</h3><p class="text">${escaped(own.slice(0, same))}${rest}</p></div>`;
}

function metadataOf({ run, model, plan }: CompareResult): string {
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
  ];
  return `<dl>${facts.map(([name, value]) => `<dt>${escaped(name)}</dt><dd>${escaped(value)}</dd>`).join('')}</dl>`;
}
