// The page of the chat view: draws what the extension sends. Everything that a model said becomes text nodes, never HTML.
(() => {
  const vscode = acquireVsCodeApi();
  const at = (id) => document.getElementById(id);
  const [log, form, text, note] = [at("log"), at("form"), at("text"), at("note")];
  let answer = null;
  let said = "";
  let isDrawn = true;

  function turn(className, content) {
    const element = document.createElement("div");
    element.className = `turn ${className}`;
    element.textContent = content;
    log.append(element);
    log.scrollTop = log.scrollHeight;
    return element;
  }

  function button(label, message) {
    const element = document.createElement("button");
    element.textContent = label;
    element.addEventListener("click", () => vscode.postMessage(message()));
    return element;
  }

  // Fenced blocks become boxes with buttons; all else stays as it is.
  function draw(element, markdown) {
    const pieces = [];
    let code = null;
    for (const line of markdown.split("\n")) {
      const isFence = /^\s*```/.test(line);
      if (isFence) code = code === null ? pieces.push({ isCode: true, lines: [] }) : null;
      else if (code !== null) pieces[pieces.length - 1].lines.push(line);
      else if (pieces.length && !pieces[pieces.length - 1].isCode) pieces[pieces.length - 1].lines.push(line);
      else pieces.push({ isCode: false, lines: [line] });
    }
    element.replaceChildren(...pieces.map(({ isCode, lines }) => (isCode ? block(lines.join("\n")) : plain(lines.join("\n")))));
  }

  function plain(content) {
    const element = document.createElement("div");
    element.textContent = content;
    return element;
  }

  function block(content) {
    const element = document.createElement("div");
    element.className = "code";
    const pre = document.createElement("pre");
    pre.textContent = content;
    const acts = document.createElement("div");
    acts.className = "acts";
    acts.append(
      button("Insert at cursor", () => ({ type: "insert", text: content })),
      button("Copy", () => ({ type: "copy", text: content })),
    );
    element.append(pre, acts);
    return element;
  }

  // Tokens come faster than frames: drawn once a frame.
  function drawSoon() {
    if (!isDrawn) return;
    isDrawn = false;
    requestAnimationFrame(() => {
      isDrawn = true;
      if (!answer) return;
      const isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      draw(answer, said);
      if (isAtEnd) log.scrollTop = log.scrollHeight;
    });
  }

  function running(isRunning) {
    at("stop").hidden = !isRunning;
    at("send").textContent = isRunning ? "Steer" : "Send";
  }

  window.addEventListener("message", ({ data }) => {
    if (data.type === "begin") {
      [answer, said] = [turn("model", "…"), ""];
      note.textContent = "";
      running(true);
    } else if (data.type === "text") {
      said += data.delta;
      drawSoon();
    } else if (data.type === "end") {
      if (answer) draw(answer, said);
      if (data.error) turn("error", data.error);
      note.textContent = data.note ?? "";
      running(false);
    } else if (data.type === "selection") {
      at("with").hidden = data.label === "";
      at("selected").textContent = data.label;
    }
  });

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const question = text.value.trim();
    if (question === "") return;
    text.value = "";
    turn("user", question);
    const withSelection = !at("with").hidden && at("selection").checked;
    vscode.postMessage({ type: "ask", text: question, withSelection });
  });
  text.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    form.requestSubmit();
  });
  at("stop").addEventListener("click", () => vscode.postMessage({ type: "stop" }));
  at("clear").addEventListener("click", () => {
    vscode.postMessage({ type: "clear" });
    log.replaceChildren();
    [answer, said] = [null, ""];
    running(false);
  });
  vscode.postMessage({ type: "ready" });
})();
