"""The page that listens, in a real browser: its words are transcribe's."""

import contextlib
import functools
import http.server
import json
import shutil
import threading

import numpy as np
import pytest
import soundfile

from distill_user_dir import export
from distill_user_dir.shipping import runner, web_folder
from distill_user_dir.shipping.checkpoint_model import CheckpointModel
from tests.helpers import noise

pytest.importorskip("onnxscript")
pytestmark = pytest.mark.slow
ENDED, READY = "body[data-ended=yes]", "#file:not([disabled])"


@pytest.fixture(scope="module")
def page_folder(fine_tuned, tmp_path_factory):
    folder = tmp_path_factory.mktemp("web") / "page"
    difference = export.export(fine_tuned, str(folder), "web")
    assert difference.largest < 1e-3 and not difference.words and not difference.lengths
    return folder


@contextlib.contextmanager
def served(folder):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@contextlib.contextmanager
def browser_page(folder, *options):
    """The page, loaded; a request to anywhere else, and an error that it tells, is a failure."""
    from playwright import sync_api  # missing is a failure: the browser's test is never skipped

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    assert chromium, "this test needs chromium: apt-get install chromium"
    asked, wrong = [], []
    with served(folder) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", *options])
        page = browser.new_page(viewport={"width": 360, "height": 740})
        page.on("request", lambda request: asked.append(request.url))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.goto(address)
        page.wait_for_selector(READY, state="attached")
        yield page
        assert not wrong and page.inner_text("#error") == ""
        assert all(url.startswith((address, "blob:", "data:")) for url in asked)
        browser.close()


def words_of(path, model, longest):
    with runner.Recording(str(path), model.sample_rate) as recording:
        return [word.word for piece in runner.long_words(model, recording, longest) for word in piece]


@pytest.mark.parametrize("seconds", [3, 75])
def test_a_dropped_recording_is_what_transcribe_writes(fine_tuned, page_folder, tmp_path, seconds):
    size = seconds * 16000
    samples = noise(size, 3).numpy() * 0.1 * (np.sin(np.arange(size) / 9000) > -0.5)
    soundfile.write(str(tmp_path / "a.wav"), samples, 16000, "PCM_16")
    soundfile.write(str(tmp_path / "silent.wav"), np.zeros(16000), 16000)
    with browser_page(page_folder) as page:
        page.set_input_files("#file", str(tmp_path / "silent.wav"))
        page.wait_for_selector("#error:not(:empty)")
        assert "silent.wav: nothing to recognise (silent" in page.inner_text("#error")
        page.set_input_files("#file", str(tmp_path / "a.wav"))
        page.wait_for_selector(ENDED, state="attached")
        said = page.inner_text("#final").split()
        assert f"{seconds:.1f} s of audio" in page.inner_text("#speed")
        drawn = "c => new Set(c.getContext('2d').getImageData(0, 0, c.width, 200).data).size"
        assert page.eval_on_selector("#picture", drawn) > 50
        assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")  # on a phone's screen
    assert said == words_of(tmp_path / "a.wav", CheckpointModel(fine_tuned), 15) and len(said) >= seconds / 10


def test_the_microphone_is_what_transcribe_writes(fine_tuned, page_folder, tmp_path):
    voice, saved = tmp_path / "voice.wav", tmp_path / "recording.wav"
    soundfile.write(str(voice), noise(16 * 16000, 4).numpy() * 0.1, 16000, "PCM_16")
    fake = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"]
    with browser_page(page_folder, *fake, f"--use-file-for-fake-audio-capture={voice}%noloop") as page:
        page.focus("#microphone")
        page.keyboard.press("Enter")
        page.wait_for_selector("#final:not(:empty)", timeout=60000)  # after ten seconds, while it goes on
        assert page.inner_text("#microphone") == "Stop" and page.is_disabled("#file")
        page.keyboard.press("Enter")
        page.wait_for_selector(ENDED, state="attached")
        said = page.inner_text("#final").split()
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(str(saved))
    samples, rate = soundfile.read(str(saved))
    assert rate == 16000 and len(samples) > 10 * rate and np.abs(samples).max() > 0.02
    assert said == words_of(saved, CheckpointModel(fine_tuned), 10) and len(said) > 1


def test_another_runtime_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "distill_user_dir").mkdir()
    (tmp_path / "distill_user_dir" / f"onnxruntime-web-{web_folder.VERSION}.tgz").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the onnxruntime-web"):
        web_folder.cached_runtime()
    with pytest.raises(ValueError, match="no-such-program is needed: install Node.js"):
        web_folder.run(["no-such-program"])


def test_a_microphone_of_another_rate_is_resampled(tmp_path):
    """In Node, block by block: a tone keeps its place, what the student's rate cannot hold is gone."""
    program = tmp_path / "run.mjs"
    program.write_text(
        f"""import {{ Resampler }} from "{web_folder.PAGE}/resample.js";
const [from, hertz] = process.argv.slice(2).map(Number), resampler = new Resampler(from, 16000), found = [];
const tone = (i) => Math.sin(2 * Math.PI * hertz * i / from);
const block = (i) => Float32Array.from({{ length: 128 }}, (_, j) => tone(i * 128 + j));
for (let i = 0; i < from / 128; i++) found.push(...resampler.push(block(i)));
console.log(JSON.stringify(found));
"""
    )
    for rate, hertz, level in ((48000, 1000, 1), (44100, 3000, 1), (48000, 12000, 0), (8000, 1000, 1)):
        printed = web_folder.run(["node", str(program), str(rate), str(hertz)])
        found = np.array(json.loads(printed))
        assert abs(len(found) - 16000) < 200
        expected = level * np.sin(2 * np.pi * hertz * np.arange(len(found)) / 16000)
        assert np.abs(found - expected)[100:-100].max() < 0.02
