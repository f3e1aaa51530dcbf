"""`stellwerk crds`: the CustomResourceDefinitions, for `kubectl apply`."""

import click

EPILOG = """\b
Into the cluster of the current context:
  stellwerk crds | kubectl apply --server-side -f -
One kind, as JSON:
  stellwerk crds --kind InferenceModel -o json

A cluster that has the Inference Extension has InferencePool v1 already: the definition printed here accepts the
same objects."""


@click.command(epilog=EPILOG)
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only this kind, in all its groups (repeatable).")
@click.option("-o", "--output", type=click.Choice(["yaml", "json"]), default="yaml", show_default=True)
def crds(kinds: tuple[str, ...], output: str) -> None:
    """Print the CustomResourceDefinitions of every kind read here that no other project installs."""
    import json

    import yaml

    from stellwerk.control.crds import definitions
    from stellwerk.control.finding import advice

    known = {definition["spec"]["names"]["kind"]: None for definition in definitions()}
    for kind in kinds:
        if kind not in known:
            raise click.BadParameter(f'no definition of "{kind}": {advice(kind, known)}', param_hint="--kind")
    chosen = [wanted for wanted in definitions() if not kinds or wanted["spec"]["names"]["kind"] in kinds]
    if output == "json":
        click.echo(json.dumps({"apiVersion": "v1", "kind": "List", "items": chosen}, indent=2))
    else:
        click.echo(yaml.safe_dump_all(chosen, sort_keys=False, width=120, allow_unicode=True), nl=False)
