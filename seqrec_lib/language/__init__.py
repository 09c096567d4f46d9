"""Language models as recommenders: titles instead of item ids.

corpus       titles, prompts, letters; what a model reads
sources      where a model comes from: a hub id, a folder, a GGUF file (`gguf_files`), a name that can be fetched
             (`catalogue`), from scratch; `hub_format` reads and writes folders
pretrained   a causal language model with its tokenizer, and which one it was; `quantized`: in four bits
adapters     LoRA, attached in one place
logits       what follows a text, from one forward pass
memory       how many tokens a step of tuning may hold
tuning       fine-tuning on next titles (GPT4Rec's and MamRec's training)
trie         the titles that a query may be
beams        beam search over cached states; `states` has the states of GPT-2 and of Mamba-2
search       titles found by BM25
generation   history -> queries -> items: GPT4Rec, MamRec and their floors
recipes      settings of models that write queries; `ranker_recipes`: of rankers

candidates   a retriever's first items, pools to train on
ranking      LlamaRec: a letter's logit for each candidate, from one forward pass; `assessment` has what it reaches
objectives   fine-tuning and preference losses on the same logits; `orpo` has ORPO's odds
preferences  pairs of items: by rating, by LightFM's worst
ranker_training  what a ranker is tuned on, by the loop of `seqrec_lib.train.epoch`
"""
