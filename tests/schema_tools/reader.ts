// A reader of events in TypeScript, as a user would write it; compiled with --strict.
import type { Event, Part } from "./events";

function textOf(part: Part): string {
  switch (part.type) {
    case "text":
    case "reasoning":
      return part.text;
    case "tool_result":
      return part.parts.map(textOf).join("");
    case "tool_call":
      return JSON.stringify(part.arguments);
    case "image":
    case "file":
      return part.name ?? part.sha256;
  }
}

export function said(event: Event): string {
  // @ts-expect-error: only some events have it
  const unknown: string = event.text_delta;
  switch (event.type) {
    case "text_delta":
      return event.text_delta;
    case "tool_completed":
      return `${event.tool_name} ${event.latency_ms.toFixed()} ${event.tool_error ?? unknown}`;
    case "approval_resolved":
      // @ts-expect-error: it is none of the decisions
      return event.decision === "perhaps" ? "" : event.by;
    case "step_completed":
      return event.message.parts.map(textOf).join("") + event.usage.input_tokens.toFixed();
    case "completed":
      return `${event.result.state} ${event.result.total_cost_usd?.toFixed(2) ?? "unknown"}`;
    default:
      return event.thread_id;
  }
}
