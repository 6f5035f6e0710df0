from tests.demo.servers import llama, model, standin

__all__ = ["llama", "model", "standin"]
