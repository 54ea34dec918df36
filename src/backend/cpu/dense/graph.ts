import { type Attribute, FLOAT, type Graph, INT64, type Initializer, type Node, type Value } from './onnx.ts';

type Attributes = Readonly<Record<string, Attribute>>;

/** Collects the nodes and constants of one graph. Values are known by name; names that do not matter are made up. */
export class GraphBuilder {
  readonly #nodes: Node[] = [];
  readonly #initializers = new Map<string, Initializer>();
  readonly #inputs: Value[] = [];
  readonly #outputs: Value[] = [];
  #names = 0;

  /** An operator of ONNX with one output; returns the output's name. */
  op(op: string, inputs: readonly string[], attributes: Attributes = {}, output: string = this.fresh()): string {
    this.#nodes.push({ op, domain: '', inputs, outputs: [output], attributes });
    return output;
  }

  /** An operator with the outputs given ('' leaves one out), of ONNX Runtime's own domain where said so. */
  node(
    op: string,
    inputs: readonly string[],
    outputs: readonly string[],
    attributes: Attributes,
    domain: Node['domain'],
  ) {
    this.#nodes.push({ op, domain, inputs, outputs, attributes });
  }

  fresh(): string {
    return `t${this.#names++}`;
  }

  vector(name: string, values: Float32Array): string {
    const data = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    return this.constant({ name, type: FLOAT, dims: [values.length], data });
  }

  integers(values: readonly number[]): string {
    const data = new Uint8Array(BigInt64Array.from(values, BigInt).buffer);
    return this.constant({ name: `integers:${values.join(',')}`, type: INT64, dims: [values.length], data });
  }

  constant(initializer: Initializer): string {
    this.#initializers.set(initializer.name, initializer);
    return initializer.name;
  }

  input(name: string, dims: Value['dims']): string {
    this.#inputs.push({ name, dims });
    return name;
  }

  output(name: string, dims: Value['dims']): void {
    this.#outputs.push({ name, dims });
  }

  build(): Graph {
    return {
      nodes: this.#nodes,
      initializers: [...this.#initializers.values()],
      inputs: this.#inputs,
      outputs: this.#outputs,
    };
  }
}
