"""Language models as recommenders: titles instead of item ids.

corpus       titles, prompts, letters; what a model reads
pretrained   a causal language model with its tokenizer: from a hub, a folder, or from scratch
tuning       fine-tuning on next titles (GPT4Rec's and MamRec's training)
trie         the titles that a query may be
beams        beam search over cached states; `states` has the states of GPT-2 and of Mamba-2
search       titles found by BM25
generation   history -> queries -> items: GPT4Rec, MamRec and their floors
"""
