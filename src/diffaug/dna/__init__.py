"""DNA: sequences as text in, embeddings, views and synthetic sequences out."""

from diffaug.dna._files import SequenceTable, read_sequences, write_sequences
from diffaug.dna._fit import GeneratedSequences, augment, embed, fit, generate
from diffaug.dna._genomic_benchmarks import read_genomic_benchmark
from diffaug.dna._judge import Judged, Memorisation, SequenceReport, judge, kmer_distance, nearest_distance
from diffaug.dna._kmers import gc_content, kmer_counts, kmer_frequencies, motif_frequency, shuffle
from diffaug.dna._load import deduplicated, leaked, load
from diffaug.dna._peers import SplitScore, peer_score, random_embedding, split_probe
from diffaug.dna._pretrained import PretrainedEncoder, load_pretrained
from diffaug.dna._sequences import crop, decode, encode, reverse_complement

__all__ = [
    "GeneratedSequences",
    "Judged",
    "Memorisation",
    "PretrainedEncoder",
    "SequenceReport",
    "SequenceTable",
    "SplitScore",
    "augment",
    "crop",
    "decode",
    "deduplicated",
    "embed",
    "encode",
    "fit",
    "gc_content",
    "generate",
    "judge",
    "kmer_counts",
    "kmer_distance",
    "kmer_frequencies",
    "leaked",
    "load",
    "load_pretrained",
    "motif_frequency",
    "nearest_distance",
    "peer_score",
    "random_embedding",
    "read_genomic_benchmark",
    "read_sequences",
    "reverse_complement",
    "shuffle",
    "split_probe",
    "write_sequences",
]
