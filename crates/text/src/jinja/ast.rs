//! The tree of a template. Chains (`a.b.c|d`, `a + b + c`, `elif`) are lists, so the tree is only as deep as brackets and
//! blocks nest.

/// A statement and the line it begins on.
#[derive(Debug)]
pub(crate) struct Node {
    pub(super) line: u32,
    pub(super) stmt: Stmt,
}

#[derive(Debug)]
pub(super) enum Stmt {
    Text(Box<str>),
    Print(Expr),
    If {
        branches: Vec<(Expr, Vec<Node>)>,
        otherwise: Vec<Node>,
    },
    For(Box<For>),
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Link>,
        body: Vec<Node>,
    },
    Macro(Box<Macro>),
    /// `{% call(params) f(args) %}`: the body is the `caller` macro.
    Call {
        call: Expr,
        caller: Box<Macro>,
    },
    Filter {
        filters: Vec<Link>,
        body: Vec<Node>,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Vec<Node>,
    },
    /// `{% generation %}`: marks what the model wrote, for training; here only its content counts.
    Group(Vec<Node>),
    Break,
    Continue,
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) over: Expr,
    pub(super) condition: Option<Expr>,
    pub(super) body: Vec<Node>,
    pub(super) otherwise: Vec<Node>,
    pub(super) is_recursive: bool,
}

#[derive(Debug)]
pub(super) struct Macro {
    pub(super) name: Box<str>,
    pub(super) params: Vec<(Box<str>, Option<Expr>)>,
    pub(super) body: Vec<Node>,
}

/// What can be assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Box<str>),
    /// `namespace.attribute`
    Attr(Box<str>, Box<str>),
    Tuple(Vec<Target>),
}

/// An expression and the line it begins on.
#[derive(Debug)]
pub(super) struct Expr {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    None,
    Bool(bool),
    Int(i128),
    Float(f64),
    Str(Box<str>),
    Name(Box<str>),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A value and what is read from, called on or piped through it.
    Chain(Box<Expr>, Vec<Link>),
    /// Left to right, operators of one rank.
    Math(Box<Expr>, Vec<(Math, Expr)>),
    Concat(Vec<Expr>),
    Neg(Box<Expr>),
    Pos(Box<Expr>),
    Not(Box<Expr>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    /// `a < b <= c`: as in Python, all must hold.
    Compare(Box<Expr>, Vec<(Compare, Expr)>),
    /// `value if condition else value if condition else otherwise`
    Cond(Vec<(Expr, Expr)>, Option<Box<Expr>>),
}

#[derive(Debug)]
pub(super) enum Link {
    Attr(Box<str>),
    Index(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Args),
    Filter(Box<str>, Args),
    Test { name: Box<str>, args: Args, is_negated: bool },
}

#[derive(Debug, Default)]
pub(super) struct Args {
    pub(super) plain: Vec<Expr>,
    pub(super) named: Vec<(Box<str>, Expr)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Math {
    Add,
    Sub,
    Mul,
    Div,
    FloorDiv,
    Mod,
    Pow,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Compare {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    NotIn,
}
