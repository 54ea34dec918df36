import { markdown } from '../../src/eval/report.ts';
import type { Task } from '../../src/eval/tasks/types.ts';
import { isSane, SANE } from '../../src/methods/sane.ts';
import { type Cells, type Size, STEPS, type TaskScore, type TextScore } from './recipe-cells.ts';
import type { Setting } from './recipe-settings.ts';
import { digits, mebibytes, table } from './table.ts';

export interface RecipeTable {
  readonly settings: readonly Setting[];
  readonly tasks: readonly Task[];
  readonly cells: Cells;
  readonly size: Size;
  readonly pages: string;
  readonly key: (what: Task | 'text', recipe: string) => string;
  readonly markdown: boolean;
}

/** What has been measured so far, one row a setting; settings without any cell are left out. */
export function recipeTable({ settings, tasks, cells, size, pages, key, markdown: asMarkdown }: RecipeTable): string {
  const score = (task: Task, recipe: string) => cells[key(task, recipe)] as TaskScore | undefined;
  const text = (recipe: string) => cells[key('text', recipe)] as TextScore | undefined;
  const whole = text(`full${pages === 'f32' ? '' : ` @ ${pages}`}`);
  const percent = (share: number) => digits(share * 100);
  const rows = settings
    .filter(({ recipe }) => text(recipe) || tasks.some(task => score(task, recipe)))
    .map(({ method, at, recipe }) => {
      const measured = text(recipe);
      const scores = tasks.map(task => {
        const [own, full] = [score(task, recipe), score(task, 'full')];
        if (!own) return '';
        const shown = percent(own.right / own.n);
        return full && isSane(full.right / full.n) ? shown : `(${shown})`;
      });
      const name = recipe.replace(` @ ${pages}`, '');
      return [
        method === 'full' ? `full, ${recipe.split(' @ ')[1] ?? 'f32'}` : asMarkdown ? `\`${name}\`` : name,
        method === 'full' ? '' : String(at),
        ...(measured
          ? [
              digits(measured.kept),
              mebibytes(measured.held),
              whole ? percent(measured.held / whole.held) : '',
              mebibytes(measured.heldAfter),
              mebibytes(measured.peak),
            ]
          : Array(5).fill('')),
        ...scores,
        ...(measured ? [percent(measured.agreement), measured.kl.toPrecision(2)] : ['', '']),
      ];
    });
  const head = [
    'recipe',
    'at',
    'kept',
    'held MiB',
    '% of full',
    `held +${STEPS}`,
    'peak MiB',
    ...tasks.map(({ name }) => name),
    'top-1 %',
    'KL',
  ];
  const note =
    `${size.length} tokens; ${size.n} instances a task, seed ${size.seed}; ${size.windows} windows of held-out text, ${STEPS} tokens after the prompt; ` +
    `exact pages in ${pages}. Scores in %; in brackets where the full cache scores under ${SANE * 100} %.`;
  return `${note}\n\n${asMarkdown ? markdown({ head, rows }) : table(head, rows)}`;
}
