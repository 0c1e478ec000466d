"""What the page says, in English and in Chinese.

Read next: serve/pages/chat.py
"""

from __future__ import annotations

from collections.abc import Mapping

ENGLISH: Mapping[str, str] = {
    "lang": "en",
    "other": "中文",
    "title": "Cutaway",
    "ask": "Say something",
    "send": "Send",
    "stop": "Stop",
    "new": "New conversation",
    "you": "You",
    "model": "Model",
    "settings": "Settings",
    "engine": "Engine",
    "system": "System prompt",
    "temperature": "Temperature",
    "top_k": "Top-k",
    "top_p": "Top-p",
    "min_p": "Min-p",
    "max_tokens": "Most tokens",
    "seed": "Seed",
    "probabilities": "Show token probabilities",
    "light": "Light",
    "dark": "Dark",
    "auto": "Auto",
    "base": "This is a base model: it continues your text and does not answer it.",
    "empty": "Ask the model anything. Point at a token of its answer, or tap it, to see what else it might have said.",
    "tokens_per_second": "tokens/s",
    "running": "Being written",
    "waiting": "In the queue",
    "pages": "Pages held",
    "pages_shared": "Pages shared",
    "prefix_hits": "Prefix hits",
    "prefix_tokens": "Tokens not read again",
    "prompt_tokens": "Tokens read",
    "written_tokens": "Tokens written",
    "preemptions": "Preemptions",
    "steps": "Steps",
    "guesses": "Guesses kept",
    "ended_length": "cut: the most tokens were reached",
    "ended_cancelled": "stopped",
    "ended_stuck": "cut: the rules left no token",
    "ended_failed": "failed",
    "usage": "{count} tokens in {seconds:.1f} s",
    "cached": "{cached} of the prompt's tokens were read before",
    "away": "The server is not there any more.",
}

CHINESE: Mapping[str, str] = {
    "lang": "zh",
    "other": "English",
    "title": "Cutaway",
    "ask": "说点什么",
    "send": "发送",
    "stop": "停止",
    "new": "新对话",
    "you": "你",
    "model": "模型",
    "settings": "参数",
    "engine": "引擎",
    "system": "系统提示",
    "temperature": "温度",
    "top_k": "Top-k",
    "top_p": "Top-p",
    "min_p": "Min-p",
    "max_tokens": "最多词元",
    "seed": "随机种子",
    "probabilities": "显示词元概率",
    "light": "浅色",
    "dark": "深色",
    "auto": "自动",
    "base": "这是基础模型：它续写你的文字，不回答问题。",
    "empty": "随便问点什么。把指针移到回答里的词元上，或轻点它，就能看到模型还可能说什么。",
    "tokens_per_second": "词元/秒",
    "running": "正在生成",
    "waiting": "排队",
    "pages": "已用页",
    "pages_shared": "共享页",
    "prefix_hits": "前缀命中",
    "prefix_tokens": "免重读词元",
    "prompt_tokens": "已读词元",
    "written_tokens": "已写词元",
    "preemptions": "抢占",
    "steps": "步数",
    "guesses": "采纳的猜测",
    "ended_length": "截断：已到最多词元",
    "ended_cancelled": "已停止",
    "ended_stuck": "截断：规则不留任何词元",
    "ended_failed": "失败",
    "usage": "{count} 个词元，{seconds:.1f} 秒",
    "cached": "提示中有 {cached} 个词元无需重读",
    "away": "服务器已断开。",
}

LANGUAGES = {"en": ENGLISH, "zh": CHINESE}


def words(asked: str | None, accepted: str | None) -> Mapping[str, str]:
    """The page's language: what its address asks for, else the first that the browser accepts and we know."""
    if asked in LANGUAGES:
        return LANGUAGES[asked]
    for one in (accepted or "").lower().split(","):
        known = LANGUAGES.get(one.strip()[:2])
        if known is not None:
            return known
    return ENGLISH
