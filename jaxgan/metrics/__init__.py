"""What generated images and texts are measured by: features -> numbers, offline.

`features` makes feature vectors of images, `evaluate` all metrics of them; each metric is a
function of arrays in a file of its own: `frechet`, `kernel`, `prdc`, `scores`, `modes`,
`neighbours`, `similarity`. To add one, write `jaxgan/metrics/<name>.py`, features -> number, and
call it in `evaluate.compare`. Texts are measured as they are, by `bleu` and `text`; `text.compare`
calls all of it.
"""
