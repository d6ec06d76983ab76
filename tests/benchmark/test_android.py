"""The real adb client against a loopback device."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from tfslim import errors
from tfslim.benchmark import Options
from tfslim.benchmark import __main__ as command
from tfslim.benchmark.android import AndroidOptions, adb, run_android

QUICK = Options(num_runs=2, rounds=1, warmup_runs=1, warmup_secs=0)
TWO_ROUNDS = Options(num_runs=4, rounds=2, warmup_runs=1, warmup_secs=0)


def _android(phone, tool, **changes):
    given = {
        "serial": phone.serial,
        "benchmark_binary": str(tool),
        "device_dir": str(phone.dir),
        "cooldown_secs": 0,
        "reconnect_secs": 10,
    }
    return AndroidOptions(**(given | changes))


def _run(phone, tool, models, options=QUICK, **changes):
    [results] = run_android(models, [options], android=_android(phone, tool, **changes))
    return results


def _calls(phone):
    return [json.loads(line) for line in phone.log.read_text().splitlines()]


def test_two_models_interleaved(phone, tool, tiny_models):
    # Names are the user's: none of them may reach the device.
    names = {"a": "a b;touch owned.tflite", "b": "$(touch owned)'\".tflite"}
    models = {names[key]: data for key, data in tiny_models.items()}
    results = _run(phone, tool, models, TWO_ROUNDS)
    assert [result.name for result in results] == list(models)
    # The bytes that arrived are those of the files, and of the tool.
    sent = {hashlib.sha256(content).hexdigest() for _, content in phone.device.received}
    mine = {result.sha256 for result in results}
    assert sent == mine | {hashlib.sha256(tool.read_bytes()).hexdigest()}
    assert len(phone.device.received) == 3
    # The exact arguments, A B then B A.
    folder = f"{phone.dir}/tfslim_benchmark"
    expected = [
        [
            f"--graph={folder}/{results[index].sha256}.tflite",
            "--num_threads=1",
            "--warmup_runs=1",
            "--warmup_min_secs=0",
            "--num_runs=2",
            "--min_secs=0",
            "--use_xnnpack=true",
            "--use_gpu=false",
            "--use_nnapi=false",
        ]
        for index in (0, 1, 1, 0)
    ]
    assert _calls(phone) == expected
    assert phone.left() == []
    assert not [p for p in phone.dir.parent.rglob("owned")]
    assert not any("touch owned.tflite" in line for line in phone.device.commands)
    result = results[0]
    assert (result.runner, result.partitions, result.other_ops) == ("android", 1, 0)
    assert result.latency.num_runs == 4 and len(result.by_round) == 2
    assert results[1].latency.mean > result.latency.mean > 0
    assert result.peak_memory_bytes == 2.5 * 2**20
    machine = result.environment
    assert machine["device"] == "Loop Back 1" and machine["cpu"] == "LB1000"
    assert machine["os"] == "Android 14 (SDK 34)" and machine["abi"] == "arm64-v8a"
    assert machine["temperature_before_c"] == 31.0 and machine["charging"] is True
    assert machine["battery_percent"] == 80
    assert set(result.invalid) == {"few_runs"}


def test_second_run_moves_nothing(phone, tool, tiny_models):
    _run(phone, tool, tiny_models, keep_files=True)
    moved = phone.device.bytes_received
    assert moved == sum(map(len, tiny_models.values())) + len(tool.read_bytes())
    # Kept are the two files and the tool in their folder, and nothing half done.
    assert len(phone.left()) == 4
    _run(phone, tool, tiny_models)
    assert phone.device.bytes_received == moved
    assert phone.left() == []


def test_file_damaged_on_the_device_is_pushed_again(phone, tool, tiny_models):
    [first, _] = _run(phone, tool, tiny_models, keep_files=True)
    path = phone.dir / "tfslim_benchmark" / f"{first.sha256}.tflite"
    path.write_bytes(b"rotten")
    _run(phone, tool, tiny_models)
    assert phone.models_received == [*tiny_models.values(), tiny_models["a"]]


def test_threads_profile_and_fast_cores(phone, tool, tiny_models):
    # Cores 0 and 1 run at 1.8 GHz, 2 and 3 at 2.8 GHz.
    phone.script(
        "cat",
        """case "$1" in
*/cpu[01]/cpufreq/cpuinfo_max_freq) echo 1800000 ;;
*/cpu[23]/cpufreq/cpuinfo_max_freq) echo 2800000 ;;
*/cpu[0123]/cpufreq/scaling_governor) echo walt ;;
/sys/*) exit 1 ;;
*) exec /bin/cat "$@" ;;
esac""",
    )
    phone.script("taskset", f'echo "$1" >> {phone.log}.mask; shift; exec "$@"')
    jobs = [Options(num_runs=1, rounds=1, num_threads=n) for n in (1, 4)]
    android = _android(phone, tool, profile=True)
    one, four = run_android({"a": tiny_models["a"]}, jobs, android=android)
    assert [r.options.num_threads for r in (*one, *four)] == [1, 4]
    # The round and the profile on the fast cores; four threads need all cores.
    assert phone.log.with_name("calls.jsonl.mask").read_text().split() == ["c", "c"]
    assert one[0].environment["governor"] == "walt"
    assert [op.op for op in one[0].ops] == ["CONV_2D"]
    assert one[0].ops[0].latency_us > 0
    assert "--enable_op_profiling=true" in _calls(phone)[1]
    assert len(phone.models_received) == 1


def test_two_devices_at_once(new_phone, tool, tiny_models):
    phones = [new_phone(), new_phone()]
    serials = [phone.serial for phone in phones]
    models = {"a": tiny_models["a"]}
    # The same path on both devices is another folder of this computer.
    android = _android(
        phones[0], tool, serial=",".join(serials), device_dir="/mounted/bin"
    )
    sessions = run_android(models, [QUICK], android=android)
    assert [session[0].environment["serial"] for session in sessions] == serials
    for phone in phones:
        assert phone.models_received == [tiny_models["a"]]
        assert len(_calls(phone)) == 1
        assert sorted(p.name for p in phone.bin.iterdir()) == ["dumpsys", "getprop"]


def test_one_device_fails_and_the_other_is_in_the_table(
    new_phone, tool, tiny_models, tmp_path, capsys
):
    good, full = new_phone(), new_phone()
    full.device.faults.disk_full = True
    model, out = tmp_path / "m.tflite", tmp_path / "out.json"
    model.write_bytes(tiny_models["a"])
    code = command.main(
        [
            "x",
            str(model),
            "--android",
            "--serial=all",
            f"--benchmark_binary={tool}",
            "--device_dir=/mounted/bin",
            "--num_runs=1",
            "--rounds=1",
            f"--json={out}",
        ]
    )
    assert code == 1
    [row] = json.loads(out.read_text())["rows"]
    assert row["result"]["environment"]["serial"] == good.serial
    captured = capsys.readouterr()
    assert good.serial in captured.out
    assert f"'{full.serial}' is full" in captured.err.splitlines()[-1]


@pytest.mark.parametrize("fault", ["cut_pushes", "cut_runs"])
def test_one_broken_connection_is_survived(phone, tool, tiny_models, fault):
    setattr(phone.device.faults, fault, 1)
    [result] = _run(phone, tool, {"a": tiny_models["a"]})
    assert result.latency.num_runs == 2
    assert getattr(phone.device.faults, fault) == 0
    # Whatever was sent twice, what stands under the file's name is whole.
    assert phone.models_received[-1] == tiny_models["a"]
    assert phone.left() == []


@pytest.mark.parametrize(
    ("fault", "doing"), [("cut_pushes", "was pushed"), ("cut_runs", "the model ran")]
)
def test_a_connection_that_keeps_breaking(phone, tool, tiny_models, fault, doing):
    setattr(phone.device.faults, fault, 3)
    with pytest.raises(errors.BenchmarkError, match=rf"was lost .*{doing}, 3 tim"):
        _run(phone, tool, {"a": tiny_models["a"]})
    assert phone.left() == []


def test_device_that_does_not_come_back(phone, tool, tiny_models):
    def pull():
        while not phone.models_received:
            time.sleep(0.01)
        phone.device.stop()

    thread = threading.Thread(target=pull)
    thread.start()
    with pytest.raises(errors.BenchmarkError, match="was lost while"):
        _run(phone, tool, {"a": tiny_models["a"]}, reconnect_secs=1)
    thread.join()


def test_full_device(phone, tool, tiny_models):
    phone.device.faults.disk_full = True
    with pytest.raises(errors.BenchmarkError, match=r"is full: 0\.0 MB do not fit"):
        _run(phone, tool, tiny_models)
    assert phone.left() == []


def test_slow_device_times_out(phone, tool, tiny_models):
    phone.device.faults.delay_secs = 5
    with pytest.raises(errors.BenchmarkError, match="took more than 1 s"):
        _run(phone, tool, tiny_models, timeout_secs=1)


@pytest.mark.slow
def test_hanging_tool_is_stopped(phone, tool, tiny_models):
    phone.device.environment["STAND_IN_MODE"] = "hang"
    with pytest.raises(errors.BenchmarkError, match="took more than 4 s"):
        _run(phone, tool, tiny_models, timeout_secs=4)
    assert phone.left() == []
    for _ in range(50):
        if not phone.device.processes:
            break
        time.sleep(0.1)
    assert not phone.device.processes


def test_truncated_file_crashes_the_tool(phone, tool, tiny_models):
    half = tiny_models["a"][: len(tiny_models["a"]) // 2]
    with pytest.raises(errors.BenchmarkError, match=r"'bad\.tflite' .* signal 11"):
        _run(phone, tool, {"bad.tflite": half})
    assert phone.left() == []


def test_fallback_and_unknown_flags_are_seen(phone, tool, tiny_models):
    phone.device.environment["STAND_IN_MODE"] = "gpu_refused"
    options = Options(num_runs=1, rounds=1, delegate="gpu")
    [result] = _run(phone, tool, {"a": tiny_models["a"]}, options)
    assert result.partitions == 0 and "'gpu'" in result.invalid["fallback"]
    assert "--use_gpu=true" in _calls(phone)[0]
    phone.device.environment["STAND_IN_MODE"] = "old"
    [result] = _run(phone, tool, {"a": tiny_models["a"]})
    assert "--warmup_min_secs" in result.invalid["unknown_flags"]


def test_the_compiled_runtime_on_the_cpu(phone, tool, tiny_models):
    results = _run(phone, tool, tiny_models, TWO_ROUNDS, runtime="compiled")
    a, b = results
    assert b.latency.p50 is None and b.latency.mean > a.latency.mean
    assert a.init_us > 0 and a.peak_memory_bytes == round(3.5 * 2**20)
    assert a.environment["runtime"] == "compiled"
    assert "unknown_delegate" not in a.invalid
    for call in _calls(phone):
        assert {"--use_cpu=true", "--use_gpu=false", "--use_npu=false"} <= set(call)
        assert not any(argument.startswith("--use_xnnpack") for argument in call)


def test_the_compiled_runtime_says_what_the_gpu_left(phone, tool, tiny_models):
    options = Options(num_runs=1, rounds=1, delegate="gpu")
    [result] = _run(phone, tool, {"a": tiny_models["a"]}, options, runtime="compiled")
    assert (result.partitions, result.delegated_ops, result.other_ops) == (2, 1, 1)
    assert "'gpu' runs only a part" in result.invalid["partial_fallback"]
    assert {"--use_cpu=true", "--use_gpu=true"} <= set(_calls(phone)[0])
    phone.device.environment["STAND_IN_MODE"] = "silent"
    [result] = _run(phone, tool, {"a": tiny_models["a"]}, options, runtime="compiled")
    assert "adb logcat" in result.invalid["unknown_delegate"]
    phone.device.environment["STAND_IN_MODE"] = "stops"
    with pytest.raises(errors.BenchmarkError, match="printed no timings"):
        _run(phone, tool, {"a": tiny_models["a"]}, options, runtime="compiled")


@pytest.mark.parametrize(
    ("runtime", "delegate"),
    [("compiled", "nnapi"), ("compiled", "none"), ("interpreter", "npu")],
)
def test_a_delegate_of_the_other_runtime_is_refused(runtime, delegate):
    options = Options(delegate=delegate)
    with pytest.raises(errors.ConfigError, match=f"'{runtime}' has no delegate"):
        run_android({}, [options], android=AndroidOptions(runtime=runtime))


def test_heat_and_low_battery_are_seen(phone, tool, tiny_models):
    # One degree more at every question.
    count = phone.bin / "count"
    phone.battery(f"  level: 10\n  temperature: $(wc -l < {count})0\n")
    script = (phone.bin / "dumpsys").read_text().replace("'END'", "END")
    (phone.bin / "dumpsys").write_text(
        script.replace("test $1", f"echo >> {count}\ntest $1", 1)
    )
    [result] = _run(phone, tool, {"a": tiny_models["a"]}, TWO_ROUNDS)
    assert {"hot", "battery"} <= set(result.invalid)
    rise = (
        result.environment["temperature_after_c"]
        - result.environment["temperature_before_c"]
    )
    assert rise > 5


def test_choice_of_devices(new_phone):
    client = adb.Adb()
    with pytest.raises(errors.ConfigError, match="No Android device is attached"):
        client.choose("")
    one = new_phone()
    assert client.choose("") == [one.serial]
    two = new_phone()
    with pytest.raises(errors.ConfigError, match=r"2 devices are attached.*--serial"):
        client.choose("")
    assert set(client.choose("all")) == {one.serial, two.serial}
    assert client.choose(two.serial) == [two.serial]
    with pytest.raises(errors.ConfigError, match="No device 'R58' is attached"):
        client.choose(f"{one.serial},R58")


def test_serial_with_a_port_is_connected(new_phone):
    phone = new_phone(connect=False)
    assert adb.Adb().choose(phone.serial) == [phone.serial]


def test_unauthorized_device(new_phone):
    phone = new_phone(connect=False)
    phone.device.faults.unauthorized = True
    subprocess.run(["adb", "connect", phone.serial], capture_output=True)
    with pytest.raises(errors.ConfigError, match="is not authorized: unlock it"):
        adb.Adb().choose(phone.serial)


@pytest.mark.slow
def test_silent_device(new_phone):
    phone = new_phone(connect=False)
    phone.device.faults.silent = True
    subprocess.run(["adb", "connect", phone.serial], capture_output=True)
    with pytest.raises(errors.ConfigError, match="is offline: unplug it"):
        adb.Adb().choose(phone.serial)


@pytest.mark.slow
def test_hot_device_is_waited_for(phone, tool, tiny_models):
    # 40 degrees at the start, 45 at the next two questions, then 40 again.
    count = phone.bin / "count"
    phone.script(
        "dumpsys",
        f"""test $1 = battery || exit 0
echo >> {count}
case $(wc -l < {count}) in 3|4) t=450 ;; *) t=400 ;; esac
echo "  temperature: $t" """,
    )
    start = time.monotonic()
    [result] = _run(phone, tool, {"a": tiny_models["a"]}, cooldown_secs=30)
    assert time.monotonic() - start > 4  # Two steps of two seconds.
    assert "hot" not in result.invalid
    assert result.environment["temperature_before_c"] == 40.0


def test_binary_for_another_device_is_refused_before_any_push(phone, tmp_path):
    # An ELF header for x86-64 (62) on a phone with ARM cores.
    path = tmp_path / "x86"
    path.write_bytes(b"\x7fELF" + bytes(14) + (62).to_bytes(2, "little"))
    with pytest.raises(errors.ConfigError, match="is for x86_64; the device runs"):
        _run(phone, path, {"a": b""})
    assert phone.device.received == [] and phone.left() == []


def test_folder_that_cannot_be_made(phone, tool, tiny_models):
    (phone.dir / "file").touch()
    with pytest.raises(errors.BenchmarkError, match=r"cannot make .*--device_dir"):
        _run(phone, tool, tiny_models, device_dir=f"{phone.dir}/file")


def test_ctrl_c_leaves_nothing(phone, tool, tiny_models, tmp_path):
    model = tmp_path / "m.tflite"
    model.write_bytes(tiny_models["b"])
    phone.device.environment["STAND_IN_MODE"] = "hang"
    arguments = [
        f"--serial={phone.serial}",
        f"--benchmark_binary={tool}",
        f"--device_dir={phone.dir}",
    ]
    start = [sys.executable, "-m", "tfslim.benchmark", str(model), "--android"]
    # A group of its own: a terminal sends Ctrl-C to adb as well.
    process = subprocess.Popen(
        [*start, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # Whoever runs the tests in the background of a script lets them ignore it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    for _ in range(300):
        if phone.log.exists():
            break
        time.sleep(0.1)
    assert phone.left()
    os.killpg(process.pid, signal.SIGINT)
    _, problems = process.communicate(timeout=60)
    assert process.returncode == 130
    assert problems.splitlines()[-1] == "tfslim.benchmark: interrupted"
    assert phone.left() == []


def _export(phone, tool, out_dir):
    from tfslim import export

    section = "--config.benchmark.android"
    return export.main(
        [
            "export",
            "--model=mlp:hidden=(8,)",
            "--epochs=0",
            "--quantize=float32,dynamic_int8",
            f"--out_dir={out_dir}",
            "--benchmark=host,android",
            "--config.benchmark.num_runs=2",
            "--config.benchmark.rounds=2",
            f"{section}.serial={phone.serial}",
            f"{section}.benchmark_binary={tool}",
            f"{section}.device_dir={phone.dir}",
        ]
    )


def test_phone_in_the_pipeline(phone, tool, tmp_path, capsys):
    """`--benchmark=host,android` puts both into result and report."""
    out = tmp_path / "out"
    code = _export(phone, tool, out)
    assert code == 0, capsys.readouterr().err
    result = json.loads((out / "result.json").read_text())
    for row in result["variants"]:
        [entry] = row["android"]
        timing = entry["result"]
        assert (row["benchmark"]["runner"], timing["runner"]) == ("host", "android")
        content = (out / row["file"]).read_bytes()
        assert timing["sha256"] == hashlib.sha256(content).hexdigest()
        assert content in phone.models_received
    report = (out / "report.md").read_text()
    assert "## On phones" in report and "Loop Back 1, LB1000, Android 14" in report
    assert phone.left() == []


def test_a_failing_phone_does_not_cost_the_export(phone, tool, tmp_path, capsys):
    phone.device.faults.disk_full = True
    out = tmp_path / "out"
    assert _export(phone, tool, out) == 1
    assert "is full" in capsys.readouterr().err.splitlines()[-1]
    result = json.loads((out / "result.json").read_text())
    assert all(row["benchmark"] and "android" not in row for row in result["variants"])
    assert "is full" in (out / "report.md").read_text()


def test_a_missing_phone_fails_before_anything_is_made(adb_server, tmp_path, capsys):
    from tfslim import export

    out = tmp_path / "out"
    code = export.main(["export", "--benchmark=android", f"--out_dir={out}"])
    assert code == 2 and "No Android device" in capsys.readouterr().err
    code = export.main(["export", "--benchmark=phone", f"--out_dir={out}"])
    assert code == 2 and "Unknown benchmark runner" in capsys.readouterr().err
    assert not list(out.glob("*"))
