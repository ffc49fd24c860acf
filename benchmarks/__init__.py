"""How fast WSGI applications run behind this adapter, as ratios to other ways.

Two parts, each a process of its own for each contender, in turns:

    process   no network: an ASGI client in the process calls the adapter
    served    real servers on 127.0.0.1, asked by wrk

`contenders` and `limits` say who takes part, `applications`, `frameworks` and
`bodies` what is served, `cases` what is asked. `client` and `worker` run one
contender, `process` all of them in turns; `entrants`, `servers`, `site`, `wrk`,
`download` and `served` do the same over the network, and `command` is the command
line. `statistics`, `results`, `targets`, `report`,
`growth` and `plot` make numbers readable.
"""
