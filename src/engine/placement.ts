import { TURN_BYTES } from '../../kernels/abi.ts';
import type { RotaryTable } from './rotary.ts';
import type { Work } from './work.ts';
import { Scratch, type Workspace } from './workspace.ts';

/**
 * Where the rows of a list of works stand at a layer: their positions and, per rope, row block and shift, where their angles
 * lie. Mostly the same at every layer; not where layers hold renumbered entries or a layer's references were shifted.
 */
export class Placement {
  readonly #workspace: Workspace;
  readonly #ropes: readonly RotaryTable[];
  readonly #rowsPerBlock: number;
  /** Angles of rows whose positions do not count on by one. */
  readonly #gathered: Scratch;
  #turnsPerRope = 0;
  /** What was written last: by work, the first position and the shifts. */
  readonly #bases: number[] = [];
  readonly #shifts: Int32Array[] = [];
  /** [works][ropes] */
  readonly #tables: number[] = [];

  constructor(workspace: Workspace, ropes: readonly RotaryTable[], rowsPerBlock: number) {
    this.#workspace = workspace;
    this.#ropes = ropes;
    this.#rowsPerBlock = rowsPerBlock;
    this.#gathered = new Scratch(workspace.memory);
  }

  begin(): void {
    this.#bases.length = 0;
  }

  /** Rows stand at the slot's next positions: to be called before they are appended. */
  place(works: readonly Work[], layer: number): void {
    let same = this.#bases.length === works.length;
    for (const [n, { sequence }] of works.entries()) {
      const base = sequence.nextPosition(layer);
      const shifts = sequence.shifts();
      if (this.#bases[n] !== base || this.#shifts[n] !== shifts) same = false;
      this.#bases[n] = base;
      this.#shifts[n] = shifts;
    }
    if (same) return;
    this.#bases.length = works.length;
    this.#writePositions(works);
    this.#writeTurns(works);
  }

  /** TURN pairs of a rope: of each work, row block and shift in order. */
  turns(rope: number): number {
    return this.#workspace.turns.address + rope * this.#turnsPerRope;
  }

  /** Rotary table of a work's rows at shift 0. */
  turnOf(work: number, rope: number): number {
    return this.#tables[work * this.#ropes.length + rope]!;
  }

  dispose(): void {
    this.#gathered.dispose();
  }

  #writePositions(works: readonly Work[]): void {
    const { i32 } = this.#workspace.memory;
    let row = this.#workspace.positions / 4;
    for (const [n, { positions, rows }] of works.entries())
      for (let i = 0; i < rows; i++) i32[row++] = positions ? positions[i]! : this.#bases[n]! + i;
  }

  #writeTurns(works: readonly Work[]): void {
    let pairs = 0;
    let angles = 0;
    for (const [n, { rows, positions }] of works.entries()) {
      const shifts = this.#shifts[n]!.length;
      pairs += Math.ceil(rows / this.#rowsPerBlock) * shifts;
      if (positions) for (const { rotary } of this.#ropes) angles += rows * shifts * rotary * 4;
    }
    this.#turnsPerRope = pairs * TURN_BYTES;
    let at = this.#workspace.turns.ensure(this.#turnsPerRope * this.#ropes.length) / 4;
    let gathered = angles > 0 ? this.#gathered.ensure(angles) : 0;
    const { i32 } = this.#workspace.memory;
    for (const [r, rope] of this.#ropes.entries()) {
      for (const [n, { rows, positions }] of works.entries()) {
        const shifts = this.#shifts[n]!;
        const table: number[] = [];
        for (const shift of shifts) {
          if (positions) {
            rope.gather(positions, -shift, gathered);
            table.push(gathered);
            gathered += rows * rope.rotary * 4;
          } else table.push(rope.row(this.#bases[n]! - shift));
        }
        this.#tables[n * this.#ropes.length + r] = table[0]!;
        for (let from = 0; from < rows; from += this.#rowsPerBlock)
          for (const [s, shift] of shifts.entries()) {
            i32[at++] = shift;
            i32[at++] = table[s]! + from * rope.rotary * 4;
          }
      }
    }
  }
}
