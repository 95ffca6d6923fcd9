// Every bound of the extension. What comes from the server, the language server or a file is never trusted to be small.

/** Bytes of the header of one message of the language server. */
export const HEADER_BYTES_MAX = 4 * 1024;
/** Bytes of one message of the language server. */
export const MESSAGE_BYTES_MAX = 32 * 1024 * 1024;
/** Bytes that may wait to be read by the language server before it counts as stuck. */
export const UNREAD_BYTES_MAX = 64 * 1024 * 1024;
/** Requests under way at once. */
export const PENDING_MAX = 1024;
/** UTF-16 units of a document that the language server is shown. */
export const DOCUMENT_CHARS_MAX = 4 * 1024 * 1024;
/** UTF-16 units of a document or selection that may be edited by an instruction. */
export const EDIT_CHARS_MAX = 256 * 1024;
/** Lines on either side of a diff. */
export const DIFF_LINES_MAX = 20_000;
/** Steps of the diff before it gives up on being the smallest one. */
export const DIFF_STEPS_MAX = 2_000_000;
/** UTF-16 units of one answer in the chat. */
export const ANSWER_CHARS_MAX = 1024 * 1024;
/** UTF-16 units of a chat that are sent again; older turns are left out. */
export const CHAT_CHARS_MAX = 48 * 1024;
/** UTF-16 units of one line of a stream. */
export const STREAM_LINE_CHARS_MAX = 4 * 1024 * 1024;
/** Restarts of the language server within `RESTART_WINDOW_MS` before it is left off. */
export const RESTARTS_MAX = 5;
export const RESTART_WINDOW_MS = 180_000;
/** What the language server may take to answer `initialize`, and `shutdown`. */
export const INITIALIZE_MS_MAX = 20_000;
export const SHUTDOWN_MS_MAX = 1_500;
