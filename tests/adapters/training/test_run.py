"""A run learns, leaves an adapter that the store accepts, reports its cost, and continues after a kill to the same weights."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from adapters.config import read_config
from adapters.training.card import CARD_FILE, read_card
from adapters.training.checks import WORK_FOLDER
from adapters.training.errors import MachineRefused, RecipeRefused
from adapters.training.folders import exclusive_folder
from adapters.training.run import fine_tune
from adapters.weights import WEIGHTS_FILE


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / WEIGHTS_FILE)


def same(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_leaves_an_adapter_with_a_card(job, watcher):
    made = fine_tune(job(epochs=6), watcher.environment, "a test")
    losses = [step.loss for step in watcher.steps if step.loss is not None]
    assert losses[-1] < losses[0] * 0.9
    out = job().out
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "adapter_config.json", "adapter_model.safetensors", "fingerprint", "run_card.json",
    ]  # fmt: skip
    config = read_config(out / "adapter_config.json")
    assert (config.r, config.lora_alpha, config.use_rslora) == (4, 8, False)
    assert config.declared_base == "tiny"
    assert made.steps == watcher.steps[-1].num_steps
    assert made.trained == sum(tensor.numel() for tensor in weights(out).values())
    assert made.flops > 4 * made.tokens * made.parameters  # 4N a token and a little
    assert read_card(out) == made
    assert "a test" in (out / "README.md").read_text()


def test_its_chat_template_is_left_beside_the_adapter(job, watcher, tmp_path):
    file = tmp_path / "mine.jinja"
    template = "{% for one in messages %}{{ one.role }}: {{ one.content }}\n{% endfor %}"
    file.write_text(template + "{% if add_generation_prompt %}assistant: {% endif %}")
    asked = job(max_steps=1).model_copy(update={"chat_template": file})
    card = fine_tune(asked, watcher.environment, "a test")
    assert (asked.out / "chat_template.jinja").read_text() == file.read_text()
    assert "chat template" in card.data


def test_a_finished_run_is_not_done_again(job, watcher):
    first = fine_tune(job(max_steps=2), watcher.environment, "a test")
    again = fine_tune(job(max_steps=2), watcher.environment, "a test")
    assert again == first
    assert len(watcher.steps) == 2


def test_another_run_in_the_folder_is_refused(job, watcher):
    fine_tune(job(max_steps=1), watcher.environment, "a test")
    with pytest.raises(RecipeRefused, match="other data or parameters"):
        fine_tune(job(max_steps=1, rank=8), watcher.environment, "a test")


def test_a_folder_with_something_else_is_refused(job, watcher, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("mine")
    with pytest.raises(RecipeRefused, match="not empty"):
        fine_tune(job(), watcher.environment, "a test")
    assert (tmp_path / "out" / "thesis.txt").exists()


KILLED = """
    import os, signal, sys
    from pathlib import Path
    from adapters.training.recipe import Job, Recipe
    from adapters.training.ports import TrainingEnvironment
    from adapters.training.run import fine_tune
    from app.lab.training.environment import flops_counter

    def report(step):
        if step.step == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

    job = Job.model_validate_json(sys.argv[1])
    fine_tune(job, TrainingEnvironment(flops_counter=flops_counter, report=report, say=print), "a test")
"""


def killed_at(step: int, job: object) -> None:
    script = textwrap.dedent(KILLED)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    done = subprocess.run(
        [sys.executable, "-c", script, job.model_dump_json(), str(step)], env=environment, capture_output=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-2000:]


@pytest.mark.parametrize("recipe", [{}, {"method": "qlora", "optim": "adamw_8bit"}])
def test_a_killed_run_goes_on_to_the_same_weights(recipe, job, watcher):
    """It is killed with -9 after a checkpoint, and an incomplete newer checkpoint is left: the result is the same."""
    whole, cut = job("whole", max_steps=10, **recipe), job("cut", max_steps=10, **recipe)
    undisturbed = fine_tune(whole, watcher.environment, "a test")
    killed_at(6, cut)
    half = cut.out / WORK_FOLDER / "checkpoint-6"
    shutil.copytree(cut.out / WORK_FOLDER / "checkpoint-4", half)
    (half / "tally.json").unlink()
    watcher.steps.clear()
    resumed = fine_tune(cut, watcher.environment, "a test")
    assert watcher.lines == ["resuming at checkpoint-4"]
    assert [step.step for step in watcher.steps] == [5, 6, 7, 8, 9, 10]
    assert same(whole.out, cut.out)
    assert (resumed.steps, resumed.tokens, resumed.flops) == (undisturbed.steps, undisturbed.tokens, undisturbed.flops)


def test_a_killed_run_remembers_the_state_of_early_stopping(job, watcher, chats):
    """It also finds the best checkpoint after the folder was moved."""
    recipe = {"validation": chats, "epochs": 40, "every": 2, "patience": 3, "learning_rate": 0.5}
    whole, cut = job("whole", **recipe), job("cut", **recipe)
    undisturbed = fine_tune(whole, watcher.environment, "a test")
    killed_at(undisturbed.steps - 1, cut)  # after two evaluations without a better loss
    moved = cut.model_copy(update={"out": cut.out.with_name("moved")})
    cut.out.rename(moved.out)
    resumed = fine_tune(moved, watcher.environment, "a test")
    assert resumed.steps == undisturbed.steps
    assert same(whole.out, moved.out)


@pytest.mark.parametrize("stopped_early", [False, True])
def test_a_run_that_was_killed_after_its_last_step_does_not_train_further(stopped_early, job, watcher, chats, monkeypatch):
    """Also when the last step does not end an epoch, or was one of early stopping. Files of an interrupted export do no harm."""
    recipe = {"epochs": 40, "every": 2, "patience": 1, "learning_rate": 0.5} if stopped_early else {"max_steps": 5}
    watched = {"validation": chats} if stopped_early else {}
    whole, cut = job("whole", **watched, **recipe), job("cut", **watched, **recipe)
    undisturbed = fine_tune(whole, watcher.environment, "a test")

    def full(*_args, **_options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("adapters.training.run.save", full)
    with pytest.raises(OSError, match="No space"):
        fine_tune(cut, watcher.environment, "a test")
    monkeypatch.undo()
    (cut.out / ".incoming" / "killed" / "version").mkdir(parents=True)
    watcher.steps.clear()
    resumed = fine_tune(cut, watcher.environment, "a test")
    assert watcher.steps == []
    assert same(whole.out, cut.out)
    assert (resumed.steps, resumed.scores) == (undisturbed.steps, undisturbed.scores)


def test_one_process_at_a_time_works_on_a_result(tmp_path):
    out = tmp_path / "out"
    with exclusive_folder(out), pytest.raises(RecipeRefused, match="another process works on"), exclusive_folder(out):
        raise AssertionError
    assert not (tmp_path / "out").exists()


def test_validation_data_stop_a_run_early_and_the_best_checkpoint_is_kept(job, watcher, chats):
    made = fine_tune(job(validation=chats, epochs=40, every=2, patience=2, learning_rate=0.5), watcher.environment, "a test")
    assert made.steps < watcher.steps[0].num_steps
    assert made.scores["validation loss"] == pytest.approx(
        min(step.validation_loss for step in watcher.steps if step.validation_loss is not None), rel=1e-3
    )
    assert 0 <= made.scores["validation token accuracy"] <= 1


@pytest.mark.parametrize(
    "recipe", [{"rslora": True}, {"dora": True}, {"packing": False, "at_once": 2}, {"recompute": True}, {"method": "full"}]
)
def test_every_way_of_training_learns(recipe, job, watcher):
    made = fine_tune(job(epochs=3, **recipe), watcher.environment, "a test")
    losses = [step.loss for step in watcher.steps if step.loss is not None]
    assert losses[-1] < losses[0]
    assert (made.trained == made.parameters) is (recipe.get("method") == "full")
    assert ("rank" in made.recipe) is (recipe.get("method") != "full")


def test_a_base_in_four_bits_learns_with_an_eight_bit_optimiser(job, watcher):
    fine_tune(job(epochs=3, method="qlora", optim="adamw_8bit"), watcher.environment, "a test")
    losses = [step.loss for step in watcher.steps if step.loss is not None]
    assert losses[-1] < losses[0]
    assert read_config(job().out / "adapter_config.json").r == 4


def test_evaluation_changes_nothing_in_four_bits(job, watcher, chats):
    """Bitsandbytes packs weights for inference where the processor supports that, and packed weights have no gradient."""
    recipe = {"method": "qlora", "optim": "adamw_8bit", "max_steps": 8, "every": 2}
    fine_tune(job("watched", validation=chats, **recipe), watcher.environment, "a test")
    fine_tune(job("alone", **recipe), watcher.environment, "a test")
    watched, alone = weights(job("watched").out), weights(job("alone").out)
    # load_best_model_at_end chooses the last here: its loss is the lowest
    assert all(torch.equal(watched[name], alone[name]) for name in alone)


def test_packed_examples_do_not_see_one_another(job, watcher, chats):
    """The loss of all examples is the same when several share a row and when each has a row of its own."""
    recipe = {"max_steps": 1, "learning_rate": 1e-9, "validation": chats, "batch": 64, "at_once": 64}
    packed = fine_tune(job("packed", **recipe), watcher.environment, "a test")
    alone = fine_tune(job("alone", packing=False, **recipe), watcher.environment, "a test")
    assert packed.scores["validation loss"] == pytest.approx(alone.scores["validation loss"], rel=1e-4)


def test_a_target_that_does_not_exist_is_named(job, watcher):
    with pytest.raises(RecipeRefused, match=r"`query`; it has .*down_proj.*q_proj"):
        fine_tune(job(targets=("q_proj", "query")), watcher.environment, "a test")


def test_a_disk_without_room_is_found_before_anything_is_computed(job, watcher, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10))
    with pytest.raises(MachineRefused, match="this run needs"):
        fine_tune(job(), watcher.environment, "a test")
    assert watcher.steps == []


def test_a_disk_that_fills_leaves_the_last_checkpoint(job, watcher, monkeypatch):
    from adapters.training import trainers

    real = trainers.SFTTrainer._save_checkpoint

    def full(self, model, trial):
        real(self, model, trial)
        half = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        if self.state.global_step == 8:
            monkeypatch.setattr(
                shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9, 10 if half.exists() else 10**8)
            )
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(trainers.SFTTrainer, "_save_checkpoint", full)
    with pytest.raises(MachineRefused, match="checkpoint-8 could not be written; checkpoint-4 is kept"):
        fine_tune(job(max_steps=12), watcher.environment, "a test")
    monkeypatch.undo()
    assert fine_tune(job(max_steps=12), watcher.environment, "a test").steps == 12
    assert "resuming at checkpoint-4" in watcher.lines


def test_an_adapter_is_trained_further(job, watcher):
    first = job("first", epochs=4)
    fine_tune(first, watcher.environment, "a test")
    begun = next(step.loss for step in watcher.steps if step.loss)
    watcher.steps.clear()
    second = job("second", epochs=1).model_copy(update={"start": first.out})
    fine_tune(second, watcher.environment, "a test")
    assert next(step.loss for step in watcher.steps if step.loss) < begun
    for other in ({"rank": 8}, {"rslora": True}):
        with pytest.raises(RecipeRefused, match="another rank, alpha, scaling"):
            fine_tune(job("third", **other).model_copy(update={"start": first.out}), watcher.environment, "a test")
    with pytest.raises(RecipeRefused, match="nowhere holds no adapter"):
        fine_tune(job("fourth").model_copy(update={"start": first.out / "nowhere"}), watcher.environment, "a test")


def test_the_card_is_json(job, watcher):
    fine_tune(job(max_steps=1), watcher.environment, "a test")
    card = json.loads((job().out / CARD_FILE).read_text())
    assert card["recipe"]["rank"] == 4
    assert card["data"]["examples"] == 36
    assert card["peak_bytes"] > 0


def test_logits_are_computed_wherever_something_is_learned(tiny, monkeypatch):
    """Loss and gradients equal the model's own over all positions, whatever number of logits is computed together."""
    from contextlib import nullcontext
    from types import SimpleNamespace

    import torch
    from transformers import AutoModelForCausalLM

    from adapters.training import trainers

    model = AutoModelForCausalLM.from_pretrained(tiny)
    ids = torch.arange(40).reshape(2, 20) + 3
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids.clone()}
    inputs["labels"][:, :7] = trainers.IGNORED
    expected = model(**inputs).loss
    expected.backward()
    gradients = {name: one.grad.clone() for name, one in model.named_parameters()}
    model.zero_grad()
    monkeypatch.setattr(trainers, "ROWS_TOGETHER", 5)
    metrics = {"eval": {"mean_token_accuracy": []}}
    trainer = SimpleNamespace(accelerator=SimpleNamespace(autocast=nullcontext), _metrics=metrics)
    found = trainers.AnswerLossTrainer.compute_loss(trainer, model, inputs)
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    likeliest = model(input_ids=ids).logits[:, 6:-1].argmax(-1)
    assert metrics["eval"]["mean_token_accuracy"] == [pytest.approx((likeliest == ids[:, 7:]).float().mean().item())]
    assert all(torch.allclose(one.grad, gradients[name], atol=1e-5) for name, one in model.named_parameters())
