"""The operators inside torch: its own checks, compilers, export, autocast, checkpoints, second derivatives."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
import torch._dynamo.testing
from locations import ROOT
from msda_cases import OperatorCase, derived, make_inputs
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from unept import ops
from unept.ops import cpu_build, cpu_ops, dispatch, reference

pytestmark = pytest.mark.skipif(bool(cpu_build.problem()), reason=f"no native kernel: {cpu_build.problem()}")
CASE = OperatorCase(((3, 4), (2, 2)), batch=2)
FLAT = [3, 4, 2, 2]


def leaves(dtype=torch.float32, case=CASE):
    value, place, offsets, logits, _ = make_inputs(case, dtype)
    return value.requires_grad_(), place, offsets.requires_grad_(), logits.requires_grad_()


class Sampled(torch.nn.Module):
    def forward(self, value, place, offsets, logits):
        return ops.msda(value, place, offsets, logits, CASE.shapes, backend="native")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_opcheck(dtype):
    value, *rest = leaves(torch.float64 if dtype == torch.float64 else torch.float32)
    value = value.detach().to(dtype).requires_grad_()
    torch.library.opcheck(torch.ops.unept.msda.default, (value, *rest, FLAT))
    out, softmax = (tensor.detach() for tensor in torch.ops.unept.msda(value, *rest, FLAT))
    inputs = (torch.randn_like(out), *(tensor.detach() for tensor in (value, *rest)), out, softmax, FLAT)
    torch.library.opcheck(torch.ops.unept.msda_backward.default, inputs)


def test_fake_tensors_know_the_sizes():
    with FakeTensorMode():
        value, place = torch.empty(2, 16, 2, 4, requires_grad=True), torch.empty(5, 2)
        offsets, logits = torch.empty(2, 5, 2, 2, 3, 2), torch.empty(2, 5, 2, 2, 3)
        out = ops.msda(value, place, offsets, logits, CASE.shapes, backend="native")
        assert out.shape == (2, 5, 8)
        out.sum().backward()
        assert value.grad is not None
        assert value.grad.shape == value.shape


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiles_into_one_graph(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(Sampled(), fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for queries in (5, 7, 9) if dynamic else (5,):
        tensors = make_inputs(CASE._replace(queries=queries), torch.float32)
        ours = derived(lambda *arguments: compiled(*arguments[:4]), tensors, CASE.shapes)
        plain = derived(cpu_ops.msda, tensors, CASE.shapes)
        assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


def test_two_dynamic_graphs_serve_any_batch_and_any_maps():
    torch._dynamo.reset()
    graphs = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(ops.msda, fullgraph=True, dynamic=True, backend=graphs)
    maps = (((4, 5), (3, 2)), ((6, 9), (5, 4)), ((7, 3), (2, 8)), ((8, 6), (9, 7)))
    for batch, queries, shapes in zip((2, 3, 4, 5), (5, 7, 9, 11), maps, strict=True):
        case = CASE._replace(batch=batch, queries=queries, shapes=shapes)
        tensors = make_inputs(case, torch.float32)
        ours, plain = (derived(run, tensors, case.shapes) for run in (compiled, cpu_ops.msda))
        assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))
    assert graphs.frame_count <= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")  # inductor's own
def test_compiles_with_inductor():
    torch._dynamo.reset()
    compiled = torch.compile(lambda *a: ops.msda(*a, CASE.shapes) * 2, fullgraph=True)
    torch.testing.assert_close(compiled(*leaves()), Sampled()(*leaves()) * 2)


def test_the_backend_is_chosen_when_compiling(monkeypatch):
    monkeypatch.setenv("UNEPT_BACKEND", "reference")
    torch._dynamo.reset()
    seen = []

    def look(graph, _):
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph.forward

    torch.compile(lambda *a: ops.msda(*a, CASE.shapes), fullgraph=True, backend=look)(*leaves())
    assert seen
    assert not any("unept" in target for target in seen)


def test_exports_with_any_batch(tmp_path):
    batch = torch.export.Dim("batch", min=1, max=64)
    free = {0: batch}
    exported = torch.export.export(
        Sampled(), tuple(tensor.detach() for tensor in leaves()), dynamic_shapes=(free, None, free, free)
    )
    assert sum("unept.msda" in str(node.target) for node in exported.graph.nodes) == 1
    torch.export.save(exported, tmp_path / "sampled.pt2")
    loaded = torch.export.load(tmp_path / "sampled.pt2").module()
    inputs = make_inputs(CASE._replace(batch=3), torch.float32)[:4]
    assert torch.equal(loaded(*inputs), Sampled()(*inputs))


def test_autocast_never_misreads_a_half():
    value, place, offsets, logits = leaves()
    projection = torch.nn.Linear(4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        half = projection(value)
        assert half.dtype == torch.bfloat16
        out = Sampled()(half, place, offsets.bfloat16(), logits.bfloat16())
        direct, _ = torch.ops.unept.msda(half, place, offsets.bfloat16(), logits.bfloat16(), FLAT)
        out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    wide = [tensor.detach().bfloat16().float() for tensor in (offsets, logits)]
    expected = cpu_ops.msda(half.detach().float(), place, *wide, CASE.shapes)
    assert torch.equal(direct, expected)
    assert torch.equal(out, expected.bfloat16())
    assert projection.weight.grad is not None
    assert projection.weight.grad.isfinite().all()


def test_checkpoints():
    tensors = make_inputs(CASE, torch.float32)

    def run(*arguments):
        return checkpoint(Sampled(), *arguments[:4], use_reentrant=False)

    ours, plain = (derived(way, tensors, CASE.shapes) for way in (run, cpu_ops.msda))
    assert all(torch.equal(one, other) for one, other in zip(ours, plain, strict=True))


@pytest.mark.parametrize("which", [0, 2, 3])
def test_a_gradient_alone(which):
    tensors = make_inputs(CASE, torch.float32)
    expected = derived(cpu_ops.msda, tensors, CASE.shapes)[{0: 1, 2: 2, 3: 3}[which]]
    tensors[which].requires_grad_()
    out = cpu_ops.msda(*tensors[:4], CASE.shapes)
    assert torch.equal(torch.autograd.grad(out, tensors[which], tensors[4])[0], expected)


def test_second_derivatives():
    inputs = leaves(torch.float64, OperatorCase(((3, 4), (2, 2)), queries=2, heads=1, channels=3, points=2))
    assert torch.autograd.gradgradcheck(lambda *a: cpu_ops.msda(*a, CASE.shapes), inputs, atol=1e-6)


def test_second_derivatives_are_those_of_the_reference():
    results = []
    for run in (cpu_ops.msda, reference.msda):
        inputs = leaves(torch.float64)
        (first,) = torch.autograd.grad(run(*inputs, CASE.shapes).sin().sum(), inputs[2], create_graph=True)
        results.append(torch.autograd.grad(first.square().sum(), [inputs[0], inputs[2], inputs[3]]))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_importing_builds_nothing_and_can_be_done_twice(tmp_path):
    code = """
import importlib, os, pathlib, sys
import torch
import unept.ops
for name in [name for name in sys.modules if name.startswith("unept")]:
    del sys.modules[name]
import unept.ops
importlib.reload(sys.modules["unept.ops.cpu_ops"])
assert not list(pathlib.Path(os.environ["UNEPT_CACHE"]).iterdir()), "importing built something"
os.environ["UNEPT_CACHE"] = sys.argv[1]
value = torch.ones(1, 4, 1, 1, requires_grad=True)
inputs = value, torch.rand(3, 2), torch.zeros(1, 3, 1, 1, 1, 2), torch.zeros(1, 3, 1, 1, 1)
unept.ops.msda(*inputs, ((2, 2),), backend="native").sum().backward()
print(value.grad.shape)
"""
    command = [sys.executable, "-c", code, str(cpu_build.library_folder())]
    variables = os.environ | {"UNEPT_CACHE": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    assert (done.returncode, done.stdout) == (0, "torch.Size([1, 4, 1, 1])\n"), done.stderr


def test_the_chosen_backend_is_constant_to_the_compiler_as_its_decorator_would_have_it() -> None:
    decorated = torch.compiler.assume_constant_result(lambda: None)
    (mark,) = vars(decorated)
    assert getattr(dispatch._name, mark) is True


def test_a_model_and_its_training_step_are_imported_without_the_compiler() -> None:
    code = "import sys, unept.model, bench.training.loop; sys.exit('torch._dynamo' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
