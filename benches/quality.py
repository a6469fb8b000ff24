"""Search quality on development sets, next to published figures: one table.

    make quality CSN99=folder COSQA=folder REPO_QUESTIONS=file REPOSITORIES=folder CSN_VALID=folder [ADOPT=encoder]

Each set that is named is indexed below DATA/quality with the encoder ADOPT (default: the recorded one of DATA; `csn` trains its own) and
scored by `codenets evaluate`; where the encoder is the recorded one, with its reranking model too. The mixed objective is the mean of the hybrid scores of all rows: defaults are chosen by it. A set that is not
named is a row without scores. Intervals are bootstrap intervals of 95 %; a star means that hybrid differs from the better side (p < .05).

    CSN99           csn99_corpus, csn_annotations_dev.csv   challenge of CodeSearchNet, 46 development queries in six languages
    COSQA           cosqa_codebase_6267.json.gz, cosqa_dev_500.json.gz
    REPO_QUESTIONS  JSON with repositories and tasks; REPOSITORIES: their checkouts, folder by name (missing ones are cloned)
    CSN_VALID       CodeSearchNet's validation split in CodeSearchNet's folder layout
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys

# Published, on the whole set or on its development half as stated; (set, measure): figures.
PUBLISHED = {
    ("csn", "NDCG Within"): "BM25 + untrained MiniLM .850 (99 queries)",
    ("csn", "NDCG All"): "BM25 + untrained MiniLM .630 (99 queries)",
    ("cosqa", "MRR"): "untrained MiniLM .54",
    ("repositories", "NDCG@10"): "semble .891, its BM25 with rules .870, without .728 (441 tasks)",
}


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codenets", required=True)
    parser.add_argument("--data", type=pathlib.Path, required=True)
    for name in ("--encoder", "--csn99", "--cosqa", "--questions", "--repositories", "--csn-valid"):
        parser.add_argument(name, type=pathlib.Path)
    return parser.parse_args()


class Quality:
    def __init__(self, options):
        self.options = options
        self.root = options.data / "quality"
        encoder = options.encoder or self.recorded_encoder()
        reranker = options.data / "serve/current/reranker.json"
        self.environment = dict(os.environ)
        if encoder:
            self.environment["ADOPT"] = str(encoder.resolve())
        # The model of the recorded encoder; another encoder has the weights of the configuration.
        if encoder and not options.encoder and reranker.is_file():
            self.environment["RERANKER"] = str(reranker.resolve())
        self.rows = []

    def recorded_encoder(self):
        current = self.options.data / "encoder/CURRENT"
        return self.options.data / "encoder" / current.read_text().strip() if current.is_file() else None

    def codenets(self, name, conf, *arguments, **environment):
        data = self.root / name
        data.mkdir(parents=True, exist_ok=True)
        runtime = self.options.data / "runtime"
        if runtime.is_dir() and not (data / "runtime").exists():
            (data / "runtime").symlink_to(runtime.resolve())
        command = [self.options.codenets, *arguments, "--conf", conf, "--data", str(data)]
        found = subprocess.run(command, env=self.environment | environment, stdout=subprocess.PIPE, check=True)
        return found.stdout

    def judged(self, name, conf, form, file, **environment):
        """Indexes a set and scores its judged queries."""
        self.codenets(name, conf, "run", "--until", "index", **environment)
        scores = json.loads(self.codenets(name, conf, "evaluate", "--judgments", form, str(file), "--json", **environment))
        for score in scores["scores"]:
            row = {"set": name, "measure": score["measure"], "group": score["group"], "queries": score["queries"], **score["systems"]}
            self.rows.append(row | {"interval": score["interval"], "p": score["difference"]["p"], "gain": score["difference"]["mean"]})

    def documentation(self, name, conf, **environment):
        """Indexes a validation split and scores documentation as queries."""
        self.codenets(name, conf, "run", "--until", "index", **environment)
        report = json.loads(self.codenets(name, conf, "evaluate", "--json", **environment))
        for row in report["rows"]:
            if row["system"] == "hybrid" and row["language"] == "all":
                systems = {
                    other["system"]: other["score"]
                    for other in report["rows"]
                    if (other["protocol"], other["language"]) == (row["protocol"], row["language"])
                }
                compared = [of for of in report["comparisons"] if of["protocol"] == row["protocol"] and of["language"] == "all"]
                worst = max((of["difference"] for of in compared), key=lambda difference: difference["p"], default={"p": 1, "mean": 0})
                self.rows.append(
                    {"set": name, "measure": row["protocol"], "group": "all", "queries": row["queries"], **systems}
                    | {"interval": row["interval"], "p": worst["p"], "gain": worst["mean"]}
                )

    def missing(self, name, needs):
        self.rows.append({"set": name, "measure": f"not scored: {needs}", "group": "all"})


def checkouts(questions, folder):
    """Clones the repositories of the questions that the folder lacks, at their commits."""
    for name, repository in json.loads(questions.read_text())["repositories"].items():
        target = folder / name
        if target.is_dir():
            continue
        target.mkdir(parents=True)
        git = ["git", "-C", str(target), "-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false"]
        url = f"https://github.com/{repository['github']}"
        for command in (["init", "-q"], ["fetch", "-q", "--depth", "1", url, repository["commit"]], ["checkout", "-q", "FETCH_HEAD"]):
            subprocess.run(git + command, check=True)


def table(rows):
    head = ["set", "measure", "group", "queries", "bm25", "vector", "hybrid", "95 % interval", "hybrid - better side", "published"]
    lines = [head]
    for row in rows:
        if "hybrid" not in row:
            lines.append([row["set"], row["measure"]] + [""] * 8)
            continue
        star = "*" if row["p"] < 0.05 else ""
        published = PUBLISHED.get((row["set"], row["measure"]), "") if row["group"] == "all" else ""
        scores = [f"{row[system]:.3f}" for system in ("bm25", "vector", "hybrid")]
        interval = f"{row['interval']['low']:.3f} to {row['interval']['high']:.3f}"
        lines.append([row["set"], row["measure"], row["group"], str(row["queries"]), *scores, interval, f"{row['gain']:+.3f}{star}", published])
    widths = [max(len(line[column]) for line in lines if len(line) > 2 or column < 2) for column in range(len(head))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def main():
    options = arguments()
    quality = Quality(options)
    if options.csn99:
        corpus, judgments = options.csn99 / "csn99_corpus", options.csn99 / "csn_annotations_dev.csv"
        quality.judged("csn", "conf/local.conf", "csn", judgments, CSN_DIR=str(corpus.resolve()))
    else:
        quality.missing("csn", "CSN99=folder")
    if options.questions and options.repositories:
        checkouts(options.questions, options.repositories)
        folder = str(options.repositories.resolve())
        quality.judged("repositories", "conf/repositories.conf", "files", options.questions, REPOSITORIES=folder)
    else:
        quality.missing("repositories", "REPO_QUESTIONS=file REPOSITORIES=folder")
    if options.cosqa:
        folder = str(options.cosqa.resolve())
        quality.judged("cosqa", "conf/cosqa.conf", "cosqa", options.cosqa / "cosqa_dev_500.json.gz", COSQA=folder)
    else:
        quality.missing("cosqa", "COSQA=folder")
    if options.csn_valid:
        quality.documentation("csn-valid", "conf/codesearchnet-valid.conf", CSN_DIR=str(options.csn_valid.resolve()))
    else:
        quality.missing("csn-valid", "CSN_VALID=folder")
    scored = [row for row in quality.rows if "hybrid" in row and row["group"] == "all"]
    print(table(quality.rows))
    if scored:
        print(f"\nmixed objective: {sum(row['hybrid'] for row in scored) / len(scored):.4f}, the mean of hybrid over {len(scored)} rows of all queries")
    reports = options.data / "reports"
    reports.mkdir(parents=True, exist_ok=True)
    (reports / "quality.json").write_text(json.dumps(quality.rows, indent=1))


if __name__ == "__main__":
    sys.exit(main())
