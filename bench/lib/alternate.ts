/** One thing to measure: runs once, gives named numbers. */
export interface Contender<Sample> {
  readonly name: string;
  run(round: number): Promise<Sample>;
}

/**
 * Runs contenders in rounds: A B C, then C B A, and so on, so that no one always runs first, or on a machine warmed up by the same other.
 * Gives the samples of each, one a round.
 */
export async function alternate<Sample>(
  contenders: readonly Contender<Sample>[],
  rounds: number,
  onRun: (name: string, round: number) => void = () => {},
): Promise<Map<string, Sample[]>> {
  const samples = new Map<string, Sample[]>(contenders.map(({ name }) => [name, []]));
  for (let round = 0; round < rounds; round++) {
    const order = round % 2 === 0 ? contenders : [...contenders].reverse();
    for (const contender of order) {
      onRun(contender.name, round);
      samples.get(contender.name)!.push(await contender.run(round));
    }
  }
  return samples;
}
