"""SECURITY.md names files of tests; here are the tests themselves, so that none goes unnoticed."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
FILES, NETWORK, LARGE = (
    f"tests/malice/test_{name}.py" for name in ("files", "network", "large_inputs")
)
HELD_BY = {
    "a checkpoint (`.pth`, `.pt`, `.bin`) is a program": {
        FILES: [
            "test_a_checkpoint_that_calls_something_is_refused",
            "test_a_zip_bomb_is_refused_before_it_unfolds",
            "test_tensors_that_overlap_to_claim_more_than_the_file_are_refused",
        ],
        "tests/modelsets/test_importers.py": [
            "test_another_class_is_refused_by_name",
            "test_crafted_pickles_are_refused",
            "test_compressed_entries_are_refused",
        ],
    },
    "weights whose header lies": {
        FILES: [
            "test_a_safetensors_header_that_lies_is_refused",
            "test_sizes_without_end_are_refused_before_memory_is_taken",
            "test_numbers_without_end_are_refused_before_memory_is_taken",
            "test_weights_with_a_tensor_missing_are_refused",
        ]
    },
    "a model set that reaches out of its folder": {
        FILES: [
            "test_a_manifest_that_points_outside_its_folder_is_refused",
            "test_a_manifest_that_names_a_symbolic_link_is_refused",
        ],
        "tests/modelsets/test_manifest.py": [
            "test_a_manifest_that_names_a_file_outside_its_folder_is_refused",
            "test_a_symbolic_link_is_refused",
            "test_one_damaged_byte_of_any_file_is_found",
        ],
    },
    "code from a model hub": {
        "tests/test_rooms.py": [
            "test_checkpoints_are_read_as_weights_only_and_numpy_without_pickles"
        ]
    },
    "a tokenizer with a pattern that takes for ever, or that crashes its library": {
        FILES: [
            "test_a_tokenizer_with_a_hostile_part_is_refused",
            "test_a_huge_tokenizer_is_refused",
            "test_tokens_beyond_the_weights_are_refused",
        ]
    },
    "settings that are code, or unfold": {
        FILES: ["test_a_preset_that_is_more_than_values_is_refused"]
    },
    "an id that is a path": {"tests/test_input.py": ["test_ids_are_data_and_stay_what_they_are"]},
    "an id that is markup": {
        "tests/lab/quality/test_report.py": [
            "test_whatever_files_hold_is_shown_as_text",
            "test_in_a_browser_nothing_that_files_hold_runs",
        ]
    },
    "an id that steers the terminal": {
        "tests/test_input.py": ["test_input", "test_ids_are_data_and_stay_what_they_are"],
        FILES: ["test_a_card_cannot_steer_the_terminal"],
    },
    "an id that is a formula (`=cmd()`)": {
        "tests/test_input.py": ["test_ids_are_data_and_stay_what_they_are"]
    },
    "an input that fills the memory": {
        "tests/sequences/test_text.py": [
            "test_an_endless_record_is_refused_before_it_fills_the_memory"
        ],
        LARGE: [
            "test_a_million_reads_take_no_more_memory_than_ten_thousand",
            "test_a_record_of_200_million_letters_takes_a_few_bytes_a_letter",
        ],
    },
    "old or planted tables taken for results": {
        FILES: ["test_a_planted_table_is_made_anew", "test_a_planted_plan_is_no_plan"]
    },
    "others reach what we start": {
        NETWORK: [
            "test_scheduler_dashboard_nannies_and_workers_listen_on_loopback_only",
            "test_who_listens_everywhere_is_warned",
        ]
    },
    "others pose as the cluster": {
        NETWORK: [
            "test_a_run_on_a_protected_cluster",
            "test_another_authority_is_refused",
            "test_without_certificates_nobody_gets_in",
            "test_with_certificates_an_open_cluster_is_refused",
        ]
    },
    "data leaves the machine": {NETWORK: ["test_everything_but_fetching_works_without_a_network"]},
}


def rows() -> dict[str, set[str]]:
    """What could happen, and the files that the page says hold what does."""
    lines = (ROOT / "SECURITY.md").read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")][1:]
    return {first: set(last.replace("`", "").split(", ")) for first, _, last in cells}


def functions_of(file: str) -> set[str]:
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_every_line_of_the_page_has_its_tests_in_the_files_that_it_names():
    assert rows() == {danger: set(files) for danger, files in HELD_BY.items()}


def test_every_one_of_these_tests_is_there():
    named = [(f, t) for files in HELD_BY.values() for f, tests in files.items() for t in tests]
    assert [pair for pair in named if pair[1] not in functions_of(pair[0])] == []
