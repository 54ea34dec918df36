import { type Named, paretoFront, scatter } from './plots.ts';

/** How good a recipe was, and what its cache held after the prompt. */
export interface Outcome extends Named {
  readonly bytes: number;
  /** 0..1, more is better. */
  readonly share: number;
}

export const HOW_TO_READ =
  'Up and to the left is better. The dashed line joins the recipes that no other beats in both.';

/** How often each recipe's next token is the full cache's, against its bytes. At least one outcome. */
export const agreementPlot = (outcomes: readonly Outcome[]): string =>
  againstBytes('Agreement against bytes', 'equal next tokens', outcomes);

/** Outcomes that no other beats in both, from the fewest bytes on. */
export const bestOf = (outcomes: readonly Outcome[]): Outcome[] =>
  paretoFront(outcomes.map(outcome => ({ ...outcome, x: outcome.bytes, y: outcome.share })));

/** Shares of one kind against bytes, with the front of the best. At least one outcome. */
export function againstBytes(title: string, label: string, outcomes: readonly Outcome[]): string {
  const points = outcomes.map(({ name, number, bytes, share }) => ({
    ...{ name, number },
    x: bytes / 2 ** 20,
    y: share * 100,
  }));
  return scatter(
    title,
    points,
    { label: 'bytes held after the prompt', unit: 'MiB', format: value => String(Number(value.toFixed(2))) },
    { label, unit: '%', span: 5, format: value => String(Number(value.toFixed(1))) },
  );
}
