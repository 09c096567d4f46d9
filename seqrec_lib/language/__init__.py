"""Language models as recommenders: titles instead of item ids.

corpus       titles, prompts, letters; what a model reads
pretrained   a causal language model with its tokenizer: from a hub, a folder, or from scratch
tuning       fine-tuning on next titles (GPT4Rec's and MamRec's training)
trie         the titles that a query may be
beams        beam search over cached states; `states` has the states of GPT-2 and of Mamba-2
search       titles found by BM25
generation   history -> queries -> items: GPT4Rec, MamRec and their floors

candidates   a retriever's first items, pools to train on
ranking      LlamaRec: a letter's logit for each candidate, from one forward pass
objectives   fine-tuning and preference losses on the same logits; `orpo` has ORPO's odds
preferences  pairs of items: by rating, by LightFM's worst
ranker_training  the one loop that tunes a ranker
"""
