/** A model that can be loaded by name. */
export interface CatalogueEntry {
  /** What requests call it. */
  readonly name: string;
  /** A GGUF file or a Hugging Face folder. */
  readonly path: string;
  readonly kind: 'gguf' | 'folder';
  /** On disk. */
  readonly bytes: number;
  /** Comes with the package. */
  readonly bundled: boolean;
  /** Where it came from, for people. */
  readonly source: string;
}

/** Which models there are, on whatever disk: bundled, pulled, or named by a path. */
export interface Catalogue {
  list(): Promise<CatalogueEntry[]>;
  /** What to load for a name. Raises `model_not_found` with the names that there are. */
  resolve(name: string): Promise<Found>;
}

/** The part of an engine's load options that a catalogue knows. */
export interface Found {
  readonly name: string;
  readonly path: string;
}
