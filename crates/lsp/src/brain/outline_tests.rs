//! What is found in pieces of each language, and that no text makes it fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use super::*;
use proptest::prelude::*;

fn found(path: &str, text: &str) -> String {
    let all: Vec<String> = definitions(path, text).iter().map(|d| format!("{}:{}", d.line + 1, d.name)).collect();
    all.join(" ")
}

#[test]
fn rust() {
    let text = "#[inline] pub(in crate::a) const unsafe extern \"C\" fn one() {}\nstatic mut TWO: u8 = 0;\nconst _: () = ();\n\
        impl A { type Three = u8; fn four(&self) {} }\nmacro_rules! five { () => { \"fn no\" } }\n// fn no()\n\
        let r = r#\"fn no()\"#; struct r#six;\npub async fn r#seven<'a>(x: &'a str) { enum Eight {} }\nlet f: fn(u8) = g;\n";
    assert_eq!(found("a.rs", text), "1:one 2:TWO 4:Three 4:four 5:five 7:six 8:seven 8:Eight");
}

#[test]
fn python() {
    let text = "class A(B):\n    async def one(self):\n        '''\n        def no(): pass\n        '''\n    def two(self): pass\n\
        type Three = int\ntype = 3\nclassic = 1\n";
    assert_eq!(found("a.py", text), "1:A 2:one 6:two 7:Three");
}

#[test]
fn go() {
    let text = "package a\n\ntype (\n\tA struct {\n\t\tx int\n\t}\n\tB = int\n)\n\nconst C, D = 1, 2\nvar (\n\tE = f(\n\t\tg,\n\t)\n)\n\
        func (a *A) One(x int) {\n\tvar no = 1\n}\nfunc Two[T any]() {}\nvar s = `\nfunc no() {}\n`\n";
    assert_eq!(found("a.go", text), "4:A 7:B 10:C 10:D 12:E 16:One 19:Two 20:s");
}

#[test]
fn lua() {
    let text = "local function one() end\nfunction M.a.two(x) end\nfunction M:three() end\nM.four = function() end\n\
        local five = function() end\nlocal no = 1\n--[[ function no() end ]]\nreturn { six = function() end }\n";
    assert_eq!(found("a.lua", text), "1:one 2:two 3:three 4:four 5:five");
}

#[test]
fn scripts() {
    let text = "export default async function one() {\n  const no = 1, two = async (x) => x;\n  if (a) { b(); }\n}\n\
        const three = 3,\n  four = 4;\nclass A extends B {\n  static async *five(a,\n    b) {\n    call(x);\n  }\n  get six() { return 1 }\n  #seven = () => {};\n}\n\
        exports.eight = function () {};\nconst o = { nine() {}, ten: (x) => x, no: 1 };\nswitch (x) { case f(y): g() }\n";
    assert_eq!(
        found("a.js", text),
        "1:one 2:two 5:three 6:four 7:A 8:five 12:six 13:seven 15:eight 16:o 16:nine 16:ten"
    );
    let text = "export interface A<T> extends B {\n  one(a: T): void;\n  two?<U>(u: U): U;\n  no: string;\n}\nexport type C = { x: 1 };\n\
        declare module D {\n  export const enum E { no }\n}\nabstract class F {\n  private constructor(readonly x: G) { super(); }\n  protected abstract three(): void;\n}\n\
        export const four: (a: B) => C = (a) => a;\nconst type = 1;\n";
    assert_eq!(found("a.ts", text), "1:A 2:one 3:two 6:C 7:D 8:E 10:F 11:constructor 12:three 14:four 15:type");
}

#[test]
fn c_and_cpp() {
    let text = "#include <x>\n#define ONE(x) \\\n  int no(x)\ntypedef struct two { int no; } Two, *PTwo;\ntypedef int (*three)(int);\n\
        static struct two *four(void)\n{\n  if (x) { five(y); }\n  int no(3);\n}\nint six(int a);\nenum seven { no1, no2 };\n\
        int\neight (a, b)\n{\n}\n#ifdef A\nint nine(int a) {\n#else\nint nine(long a) {\n#endif\n}\nint no = f(3);\nFOO(no);\nstruct ten x = { 1 };\n";
    assert_eq!(found("a.c", text), "2:ONE 4:two 4:Two 4:PTwo 5:three 6:four 11:six 12:seven 14:eight 18:nine 20:nine");
    let text =
        "BEGIN_THING\nPRAGMA(x)\nint one(void) {}\nSTACK_OF(T) *two(int a) {}\noperator bool() {}\nint x[N(3)];\n";
    assert_eq!(found("a.c", text), "3:one 4:two");
    let text = "namespace a::b {\ntemplate <class T, int N = (3 > 2)>\nclass EXPORT One final : public Base<T> {\n public:\n  One(int x) : x_{x}, y_(2) { go(); }\n\
        virtual ~One() = default;\n  int two(int a) const override;\n  static constexpr auto three() -> int { return 1; }\n  bool operator==(const One&) const;\n\
        private:\n  int x_{3};\n  std::function<int(int)> no;\n};\n}\nextern \"C\" {\nvoid four(void);\n}\n\
        std::vector<int> a::One::five(std::map<int, int> m) const {\n  auto f = [&](int x) { return x; };\n}\nusing Six = int;\nenum class Seven : int { no };\n";
    assert_eq!(found("a.cpp", text), "1:b 3:One 5:One 7:two 8:three 16:four 18:five 21:Six 22:Seven");
}

#[test]
fn other_languages_by_keyword() {
    assert_eq!(found("a.kt", "data class A(val x: Int)\n  private fun one() {}\n"), "1:A 2:one");
}

proptest! {
    /// Whatever the text, it ends, in order and within the text.
    #[test]
    fn no_text_makes_it_fail(text in "(fn|class |struct |typedef |type|func|const|#if|#else|#endif|#define|=>|=|a|é|[(){}<>\\[\\];:,.*#'\"`\\\\\n ]){0,40}") {
        for extension in ["rs", "py", "js", "ts", "go", "c", "h", "lua", "x"] {
            let all = definitions(&format!("a.{extension}"), &text);
            prop_assert!(all.is_sorted_by_key(|d| d.line));
            prop_assert!(all.iter().all(|d| d.line < text.split('\n').count() && !d.name.is_empty()), "{:?}", all);
        }
    }
}
