"""The study: `runner` reads study.yml and executes its notebooks, `execution` is one papermill run, `book` stages and
builds the book, `plans` knows what is done and missing, `budget` runs what fits into a time, `own` has the pages of a
reader's own data, `choice` the model that they recommend, `diagnosis` tells what this machine has."""

from seqrec_lib.study.plans import Page
from seqrec_lib.study.runner import Result, Study, build_book, load_study, run_pages
from seqrec_lib.study.yaml_files import read_yaml

__all__ = ["Page", "Result", "Study", "build_book", "load_study", "read_yaml", "run_pages"]
