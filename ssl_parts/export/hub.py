"""Upload an export with the Hugging Face hub's own client, when the user asks for it."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from ssl_parts.encoders.digests import MARK
from ssl_parts.encoders.documents import read_json
from ssl_parts.errors import ConfigError


def push_export(folder: str | Path, repo: str, private: bool = True) -> str:
    """Create the repository if need be and upload the folder; the address of the commit.

    Args:
        folder: an export to=hf or to=timm.
        repo: "user/name". The client reads the user's own token (`hf auth login`).
        private: of a repository that is made now; an existing one stays as it is.

    Raises:
        ConfigError: a folder that timm could not open from the hub, a bad name, no token, or no
            network.
        WeightsError: the export's mark is damaged.
    """
    folder = Path(folder)
    mark = read_json(folder / MARK) if (folder / MARK).is_file() else {}
    if mark.get("format") not in ("hf", "timm"):
        raise ConfigError(
            f"{folder} is not an export to=hf or to=timm; only those are opened from the hub"
        )
    try:
        api = HfApi()
        api.create_repo(repo, private=private, exist_ok=True)
        return str(
            api.upload_folder(
                repo_id=repo,
                folder_path=folder,
                commit_message=f"{mark.get('name')} {mark.get('hash')}",
            )
        )
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise ConfigError(
            f"push={repo} failed: {error}; the export itself is in {folder}"
        ) from error
