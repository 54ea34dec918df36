import { describeMethod, type MethodDescription } from './describe.ts';
import { METHODS } from './index.ts';
import { optionTable, table } from './markdown.ts';
import type { OptionInfo } from './options.ts';
import { RULES, STAGE_DOES, STAGES } from './rules.ts';

const HEAD = `# Recipes

A recipe says what is done to the KV cache of a request: methods, in the order in which they act, with their options. This page
is made by \`node scripts/recipe-docs.ts\` from the registry that checks recipes; \`kvasir methods [name]\` and
\`GET /v1/kvasir/methods\` tell the same.

\`\`\`sh
kvasir generate --kv 'snapkv(keep=0.25) + kivi(bits=2)' --prompt-file report.txt
curl http://127.0.0.1:8080/v1/chat/completions -H 'content-type: application/json' -d '{
  "model": "kvasir-mini", "kv": "snapkv(keep=0.25) + kivi(bits=2)", "messages": [{"role": "user", "content": "…"}]}'
\`\`\`

A recipe is given by request (\`kv\` of \`generate\`, \`chat\`, \`score\` and of the HTTP body) or for a model (\`kv\` of \`load\`, \`--kv\`
of the command line): then it holds for requests that name none. \`full\` is the full cache, also where the model has a recipe.
The answer's \`kvasir.cache\` says which \`recipe\` ran, how many entries were \`kept\`, and the bytes held at the end and at the peak.

## Three forms

| form | example |
| --- | --- |
| text | \`snapkv(keep=0.25, window=32) + kivi(bits=2)\` |
| a typed object, or a list of them | \`[{ method: 'snapkv', keep: 0.25, window: 32 }, { method: 'kivi', bits: 2 }]\` |
| JSON text of either | \`{"method": "snapkv", "keep": 0.25}\` |

All three are taken wherever a recipe is. The text:

\`\`\`
recipe = step { "+" step }
step   = name [ "(" [ option { "," option } ] ")" ]
option = name "=" value
value  = number | true | false | word | "text" | "[" [ value { "," value } ] "]"
\`\`\`

Options that are left out have their defaults. An unknown method or option, a value out of range and methods that do not go
together are refused with \`invalid_recipe\` (HTTP 400, exit code 2), naming what is wrong, why, and what would do.`;

const BETWEEN_TURNS = `## Between turns

A session keeps its cache, and its next turn may name another recipe. The cache goes on where that one does all that the first did, and
more: from the full cache under any recipe that needs no pages of its own, else under the same methods with the same options, of which only
\`keep\` or \`budget\` may be smaller, and others after them (\`snapkv(keep=0.5)\`, then \`snapkv(keep=0.25) + kivi\`). What has been
dropped or encoded stays so: the answer is not that of a cache that had the last recipe from the start. Where a prompt leaves the session's text
on the way, the full cache is cut there, one that may be reused by prefix at the whole page before, and all others start anew. The usage says
how many tokens were reused (\`cachedTokens\`) and, where more might have been expected, why not (\`whyNotCached\`).`;

/** docs/recipes.md, from the registry and the rules. */
export function recipeReference(): string {
  const methods = METHODS.map(describeMethod);
  const common = commonOptions(methods);
  const parts = [
    HEAD,
    '## Methods',
    table(
      ['method', 'stage', 'reuse by prefix', 'what it does'],
      methods.map(({ name, traits, summary }) => [
        `[\`${name}\`](methods/${name}.md)`,
        traits.stage,
        traits.prefixStable ? 'yes' : 'no',
        summary.split('. ')[0]!.replace(/\.$/, ''),
      ]),
    ),
    'A prefix of the cache is reused under another continuation only where every method of the recipe allows it.',
    BETWEEN_TURNS,
    '## What goes together',
    `Stages: ${STAGES.map(stage => `\`${stage}\` ${STAGE_DOES[stage]}`).join('; ')}.`,
    RULES.map(rule => `- ${rule.text}`).join('\n'),
    ...(common.length > 0
      ? [
          '## Common options',
          'These mean the same in every method that has them; their defaults differ.',
          optionTable(common, false),
        ]
      : []),
  ];
  return `${parts.join('\n\n')}\n`;
}

/** Options that three methods or more have under the same name with the same meaning. */
function commonOptions(methods: readonly MethodDescription[]): OptionInfo[] {
  const all = methods.flatMap(method => method.options);
  const same = (a: OptionInfo, b: OptionInfo) => a.name === b.name && a.description === b.description;
  const firsts = all.filter((option, i) => all.findIndex(other => same(other, option)) === i);
  return firsts.filter(option => all.filter(other => same(other, option)).length >= 3);
}
