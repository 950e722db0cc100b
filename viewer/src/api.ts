/** Requests to the server that the page came from, and to no other. */

/** What the server refused, in its own words. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly current: unknown = null,
  ) {
    super(message);
  }
}

/** Whether a refusal says that another reads in this browser now, or nobody. */
export function isOther(error: ApiError): boolean {
  return error.code === "other-reader" || error.code === "reader";
}

/** The server can't be reached; what was sent may have arrived or not. */
export class OfflineError extends Error {}

/** What went wrong, in words. */
export function told(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

export async function request<T>(path: string, init: RequestInit = {}): Promise<T> {
  const response = await send(path, init);
  try {
    return (await response.json()) as T;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    // The connection broke within the body: what was sent has arrived, its answer has not.
    throw new OfflineError("the server's answer broke off");
  }
}

export function post<T>(path: string, body: unknown): Promise<T> {
  return request<T>(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
}

export async function binary(path: string): Promise<ArrayBuffer> {
  return (await send(path)).arrayBuffer();
}

async function send(path: string, init: RequestInit = {}): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new OfflineError("the server can't be reached");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => ({}));
  throw new ApiError(
    response.status,
    answer.error ?? "",
    answer.message ?? response.statusText,
    answer.current,
  );
}
