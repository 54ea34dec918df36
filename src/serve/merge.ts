/**
 * Items of several iterables as they come, at most one of each in hand. The first error ends all; leaving the loop ends all.
 */
export async function* merge<T>(sources: readonly AsyncIterable<T>[]): AsyncGenerator<T> {
  const iterators = sources.map(source => source[Symbol.asyncIterator]());
  const next = (i: number) => iterators[i]!.next().then(result => ({ i, result }));
  const pending = new Map(iterators.map((_, i) => [i, next(i)]));
  try {
    while (pending.size > 0) {
      const { i, result } = await Promise.race(pending.values());
      // Deleted first: a source goes to the end of the line after its turn.
      pending.delete(i);
      if (result.done) continue;
      pending.set(i, next(i));
      yield result.value;
    }
  } finally {
    for (const promise of pending.values()) promise.catch(() => {});
    for (const i of pending.keys()) void iterators[i]!.return?.()?.catch(() => {});
  }
}
