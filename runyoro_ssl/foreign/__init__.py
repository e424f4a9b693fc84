"""Models of fairseq2 and fairseq as folders that transformers reads."""
