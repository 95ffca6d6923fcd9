-- vonk in Neovim 0.12: put this into init.lua. Tab takes the ghost text.
vim.lsp.config("vonk", { cmd = { "vonk", "lsp" }, root_markers = { ".git" } })
vim.lsp.enable("vonk")
vim.api.nvim_create_autocmd("LspAttach", {
  callback = function(event) vim.lsp.inline_completion.enable(true, { bufnr = event.buf }) end,
})
vim.keymap.set("i", "<Tab>", function()
  return vim.lsp.inline_completion.get() and "" or "<Tab>"
end, { expr = true, desc = "Take vonk's suggestion" })
