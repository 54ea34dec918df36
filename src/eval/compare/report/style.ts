import { PLOT_DARK, PLOT_LIGHT, PLOT_STYLE } from './plot-style.ts';

/** The report's style: the page's colours, light and dark by the system or by its button. */
const LIGHT =
  '--paper:#f6f3ec;--sheet:#fdfbf7;--ink:#24211b;--soft:#655f53;--line:#ddd6c8;--edge:#8f8676;--mead:#87500f;--tint:#efe6d4;--alarm:#9b2c1d;--shade:rgb(60 45 15/.28);' +
  PLOT_LIGHT;
const DARK =
  '--paper:#161512;--sheet:#1e1c18;--ink:#e8e2d5;--soft:#a59d8d;--line:#35322b;--edge:#7d7566;--mead:#e0a957;--tint:#2b261c;--alarm:#f0937f;--shade:rgb(0 0 0/.75);' +
  PLOT_DARK;

export const STYLE = `
:root{color-scheme:light dark;${LIGHT}}
@media (prefers-color-scheme:dark){:root:not([data-theme=light]){${DARK}}}
:root[data-theme=dark]{color-scheme:dark;${DARK}}
:root[data-theme=light]{color-scheme:light}
*{box-sizing:border-box}
html{font:16px/1.55 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;background:var(--paper);color:var(--ink);-webkit-text-size-adjust:100%}
body{max-width:76rem;margin:0 auto;padding:1.5rem 1rem 4rem}
h1,h2,h3{font-family:"Iowan Old Style",Palatino,"URW Palladio L",Georgia,serif;line-height:1.2;text-wrap:balance}
h1{margin:0;font-size:clamp(1.5rem,1.1rem + 1.6vw,2rem)}
h2{margin:2.5rem 0 .25rem;font-size:1.35rem}
h3{margin:1rem 0 .25rem;font-size:1rem;overflow-wrap:anywhere}
p{margin:.25rem 0 .75rem}
.soft{max-width:46rem;color:var(--soft);font-size:.9375rem}
header{display:flex;flex-wrap:wrap;gap:.5rem 1rem;align-items:start;justify-content:space-between}
button,select{font:inherit;color:inherit;padding:.3rem .8rem;border:1px solid var(--edge);border-radius:.4rem;background:var(--sheet);max-width:100%}
:focus-visible{outline:2px solid var(--mead);outline-offset:2px}
.wide{overflow-x:auto;border:1px solid var(--line);border-radius:.6rem;background:linear-gradient(90deg,var(--sheet) 40%,transparent) 0 0/4rem 100% no-repeat local,linear-gradient(270deg,var(--sheet) 40%,transparent) 100% 0/4rem 100% no-repeat local,linear-gradient(270deg,var(--shade),transparent) 100% 0/1.6rem 100% no-repeat scroll,var(--sheet)}
table{border-collapse:collapse;width:100%;font-size:.875rem;font-variant-numeric:tabular-nums}
th,td{padding:.4rem .7rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th:first-child,td:first-child{text-align:left;font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.8125rem}
.wide th{white-space:normal;vertical-align:bottom}
.wide :is(th,td):first-child{position:sticky;left:0;min-width:8rem;max-width:20rem;background:var(--sheet);box-shadow:1px 0 var(--line);white-space:normal;overflow-wrap:anywhere}
.wide td{vertical-align:top}
.wide tbody{counter-reset:row}
.wide td:first-child::before{counter-increment:row;content:counter(row) ". ";color:var(--soft)}
tr:last-child td{border-bottom:0}
th{color:var(--soft);font-weight:600}
.grey{color:var(--soft);opacity:.65}
.wrong{color:var(--alarm);white-space:normal;text-align:left}
.map{margin:0;padding:.75rem;border:1px solid var(--line);border-radius:.6rem;background:var(--sheet);min-width:0}
${PLOT_STYLE}
.scroll{overflow-x:auto}
.bars{display:grid;grid-template-columns:minmax(0,1fr) 3.5rem;gap:.1rem .75rem;margin:0;padding:0;list-style:none;font-size:.8125rem}
.bars li{display:contents}
.bars .name{grid-column:1/-1;margin-top:.3rem;font-family:ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.bars .track{align-self:center;height:.7rem;border-radius:.15rem;background:var(--tint)}
.bars .bar{display:block;min-width:1px;height:100%;border-radius:.15rem;background:var(--mead)}
.bars .value{color:var(--soft);text-align:right;font-variant-numeric:tabular-nums}
@container (min-width:30rem){.bars{grid-template-columns:minmax(0,15rem) minmax(0,1fr) 3.5rem;align-items:center}.bars .name{grid-column:auto;margin-top:0}}
.heat{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,15rem),1fr));gap:1rem}
.heat table{width:auto;font-size:.75rem}
.heat th,.heat td{padding:.15rem .4rem;border:0;text-align:center}
.heat td{background:color-mix(in srgb,var(--mead) calc(var(--share)*50%),var(--sheet))}
canvas{display:block;width:100%;height:24rem;border:1px solid var(--line);image-rendering:pixelated}
.map{display:grid;grid-template-columns:auto minmax(0,1fr);gap:.25rem .4rem}
.map .axis,.map .places,.map .under{grid-column:1/-1;margin:0}
.map .axis,.map .places{color:var(--soft);font-size:.8125rem}
.map .places{grid-column:2;display:flex;justify-content:space-between;gap:1rem}
.layers{display:grid;grid-auto-rows:minmax(0,1fr);height:24rem;margin:0;padding:0;list-style:none;color:var(--soft);font-size:.6875rem;line-height:1;text-align:right}
.layers li{padding:1px .25rem 0 0;border-top:1px solid var(--edge)}
.under{min-height:3.2em;margin:.5rem 0 0;font-size:.875rem;overflow-wrap:anywhere}
.answers{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,22rem),1fr));gap:1rem}
.answers>div{padding:.75rem 1rem;border:1px solid var(--line);border-radius:.6rem;background:var(--sheet)}
.text{white-space:pre-wrap;overflow-wrap:anywhere;font-family:Georgia,serif}
mark{background:var(--tint);color:var(--alarm)}
dl{display:grid;grid-template-columns:max-content minmax(0,1fr);gap:.2rem 1rem;font-size:.875rem}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
`;
